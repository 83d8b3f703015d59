package redfish

import "slices"

// Quirk is one way in which a BMC of the field behaves otherwise than the
// specification or than other BMCs. A personality has some for ever; the fault
// "quirk name=..." gives one for a while, so that it can be scripted.
type Quirk string

// Connection. Those marked "from the start" act only as part of a personality,
// because they belong to the listener.
const (
	RootWantsSlash       Quirk = "root-wants-slash"       // row 5: /redfish/v1 is redirected to /redfish/v1/
	RootWantsNoSlash     Quirk = "root-wants-no-slash"    // row 5: the reverse
	PathsWantSlash       Quirk = "paths-want-slash"       // row 5: 308 for every path without a slash at its end, POST too
	LoginRedirectedAsGET Quirk = "login-redirected"       // row 5: 301 for the session POST, which HTTP libraries repeat as GET
	MovedPort            Quirk = "moved-port"             // row 6, from the start: everything is redirected to another port
	PlainHTTP            Quirk = "plain-http"             // row 8, from the start: no TLS at all
	RSAKeyExchangeOnly   Quirk = "rsa-key-exchange-only"  // row 9, from the start
	TLS10Only            Quirk = "tls-1.0-only"           // row 10, from the start
	NegativeSerial       Quirk = "negative-serial"        // row 11, from the start: of the certificate
	ExpiredCertificate   Quirk = "expired-certificate"    // row 12, from the start: made in 1970, ended in 1971
	BrokenETagQuotes     Quirk = "broken-etag-quotes"     // row 13: quotes inside @odata.etag are not escaped
	EscapedSlashes       Quirk = "escaped-slashes"        // row 13: legal, but surprising
	ByteOrderMark        Quirk = "byte-order-mark"        // row 13: before the JSON
	GzipUnasked          Quirk = "gzip-unasked"           // row 14: answers are packed whoever asks, the ETag ends in -gzip
	DropsKept            Quirk = "drops-kept-connections" // row 15, from the start: a connection ends without a word after each answer
	FreezesParallel      Quirk = "freezes-parallel"       // row 16: a second request at the same time ends both and those of the next moment
)

// Login.
const (
	LimitSaidByDell       Quirk = "limit-rac0218"             // row 18: the session limit is 503 with RAC0218
	LimitSaidAs400        Quirk = "limit-400"                 // row 18: … 400 with CreateLimitReachedForResource
	NoSessionServiceLink  Quirk = "no-session-service-link"   // row 20: the root names sessions only in Links
	NoSessions            Quirk = "no-sessions"               // row 20: there is no session service
	LoginWantsBasic       Quirk = "login-wants-basic"         // row 21: the session POST needs an Authorization header
	LoginRefusesAuth      Quirk = "login-refuses-auth"        // row 21: the session POST with an Authorization header is 415
	NoSessionLocation     Quirk = "no-session-location"       // row 22: a token without an address to log out
	NoSessionToken        Quirk = "no-session-token"          // row 22: neither
	BasicOff              Quirk = "basic-off"                 // row 23: basic authentication is switched off by policy
	LoginWantsDomain      Quirk = "login-wants-domain"        // row 24: the body needs Oem.Huawei.Domain
	PasswordMustChange    Quirk = "password-must-change"      // row 25: all is 403 until the account is patched
	NotReadySYS518        Quirk = "not-ready-sys518"          // row 26: 503
	NotReadySWC0700       Quirk = "not-ready-swc0700"         // row 26: 400
	NotReadyRAC0508       Quirk = "not-ready-rac0508"         // row 26: 500
	PlainErrors           Quirk = "plain-errors"              // row 44: errors are text
	MessageWithoutList    Quirk = "message-without-list"      // row 44: @Message.ExtendedInfo is one object
	NextLinkLoops         Quirk = "next-link-loops"           // row 27: the last page names the first as the next
	MembersNotPaged       Quirk = "next-link-at-odata"        // row 27: the link is called @odata.nextLink
	AnnotatedErrorSuccess Quirk = "error-with-status-success" // row 44: an error body under status 200
)

// Power.
const (
	RepeatIs400       Quirk = "repeat-400"           // row 46: a reset to the state there is, is 400 without a telling id
	ListedButRefused  Quirk = "restart-refused"      // row 47: ForceRestart is listed and refused
	NoPowerInBetween  Quirk = "no-power-in-between"  // row 48: PowerState is null while it changes
	PausedInBetween   Quirk = "paused-in-between"    // row 48: PowerState is Paused while it changes
	OddPowerInBetween Quirk = "odd-power"            // row 48: PowerState is a word no schema has while it changes
	ForEverPoweringOn Quirk = "for-ever-powering-on" // row 48: PoweringOn never ends
	ResetInActionInfo Quirk = "reset-in-action-info" // row 52, from the start: allowed values come by @Redfish.ActionInfo
	ResetByPower      Quirk = "reset-by-power"       // row 52: allowed values are those of the present power
)

// Boot.
const (
	FutureState        Quirk = "future-state"          // row 51: changes are refused with the address of the settings object
	NoBootMode         Quirk = "no-boot-mode"          // row 53: there is no BootSourceOverrideMode
	BootModeReadOnly   Quirk = "boot-mode-read-only"   // row 53: it must not be sent
	BootWantsAll       Quirk = "boot-wants-all"        // row 53: enabled, target and mode must all be sent
	ETagWeak           Quirk = "etag-weak"             // row 55: shows weak ETags and takes strong ones only
	ETagUnquoted       Quirk = "etag-unquoted"         // row 55: If-Match must have no quotes
	ETagRefused        Quirk = "etag-refused"          // row 55: any If-Match is 412
	NoContinuous       Quirk = "no-continuous"         // row 56: Continuous is neither listed nor taken
	OnceSaysContinuous Quirk = "once-says-continuous"  // row 57: an override set Once reads Continuous
	DisabledWithNone   Quirk = "disabled-none-refused" // row 58: target None is refused
	DisabledRefused    Quirk = "disabled-refused"      // row 58: Disabled is refused
	BootLockedInPOST   Quirk = "boot-locked-in-post"   // row 60: no change during the self test
	HTTPBoot           Quirk = "http-boot"             // row 62: UefiHttp with Boot.HttpBootUri
	HTTPBootWantsTLS   Quirk = "http-boot-wants-tls"   // row 62: plain HTTP is UEFI0417
	SecureBootFlaky    Quirk = "secure-boot-flaky"     // row 63: every other change of SecureBoot is 500
)

// Virtual media.
const (
	FirstSlotDead       Quirk = "first-slot-dead"       // row 66: the first optical slot answers 405
	InsertRefusesFlags  Quirk = "insert-refuses-flags"  // row 68: Inserted and WriteProtected are unknown
	InsertWantsProtocol Quirk = "insert-wants-protocol" // row 68
	InsertWantsMethod   Quirk = "insert-wants-method"   // row 68
	InsertWantsUser     Quirk = "insert-wants-user"     // row 68
	EjectWantsObject    Quirk = "eject-wants-object"    // row 69: an empty body is 415
	EjectEmptyRefused   Quirk = "eject-empty-refused"   // row 69: ejecting nothing is 400
	StaleMedium         Quirk = "stale-medium"          // row 70: a slot shows an old image at the start
	ImageNameKept       Quirk = "image-name-kept"       // row 70: ImageName stays after an eject
	ConnectedViaLies    Quirk = "connected-via-lies"    // row 70: always NotConnected
	MediaDetached       Quirk = "media-detached"        // row 71: insert is 500 VRM0021
	MediaJobConflict    Quirk = "media-job-conflict"    // row 71: insert is 503 with RAC0720
	NoInsert            Quirk = "no-insert"             // row 72: old firmware without any way to insert
	OneMedium           Quirk = "one-medium"            // row 73: a second medium is refused
	LicenceDell         Quirk = "licence-dell"          // row 74
	LicenceHPE          Quirk = "licence-hpe"           // row 74
	LicenceSupermicro   Quirk = "licence-supermicro"    // row 74
	LicenceFujitsu      Quirk = "licence-fujitsu"       // row 74: a text and 403
	ImageWantsSuffix    Quirk = "image-wants-suffix"    // row 75: the address must end in .iso or .img
	ImageWantsTLS       Quirk = "image-wants-tls"       // row 75
	ImageFromFilesOnly  Quirk = "image-from-files-only" // row 75: NFS and CIFS only
	InsertLies          Quirk = "insert-lies"           // row 75: the insert succeeds, and the drive stays empty
	TaskVanishes        Quirk = "task-vanishes"         // row 76: the task of an insert is gone when asked for
	EjectDisturbs       Quirk = "eject-disturbs"        // row 78: a system running from the medium stops
)

// QuirkHelp describes one quirk for people. Row is that of docs/compatibility.md.
type QuirkHelp struct {
	Quirk Quirk
	Row   int
	Start bool // acts only as part of a personality
}

// Quirks lists every one there is.
func Quirks() []QuirkHelp {
	return []QuirkHelp{
		{RootWantsSlash, 5, false}, {RootWantsNoSlash, 5, false}, {PathsWantSlash, 5, false}, {LoginRedirectedAsGET, 5, false},
		{MovedPort, 6, true}, {PlainHTTP, 8, true}, {RSAKeyExchangeOnly, 9, true}, {TLS10Only, 10, true}, {NegativeSerial, 11, true},
		{ExpiredCertificate, 12, true}, {BrokenETagQuotes, 13, false}, {EscapedSlashes, 13, false}, {ByteOrderMark, 13, false},
		{GzipUnasked, 14, false}, {DropsKept, 15, true}, {FreezesParallel, 16, false},
		{LimitSaidByDell, 18, false}, {LimitSaidAs400, 18, false}, {NoSessionServiceLink, 20, false}, {NoSessions, 20, false},
		{LoginWantsBasic, 21, false}, {LoginRefusesAuth, 21, false}, {NoSessionLocation, 22, false}, {NoSessionToken, 22, false},
		{BasicOff, 23, false}, {LoginWantsDomain, 24, false}, {PasswordMustChange, 25, false},
		{NotReadySYS518, 26, false}, {NotReadySWC0700, 26, false}, {NotReadyRAC0508, 26, false},
		{NextLinkLoops, 27, false}, {MembersNotPaged, 27, false}, {PlainErrors, 44, false}, {MessageWithoutList, 44, false}, {AnnotatedErrorSuccess, 44, false},
		{RepeatIs400, 46, false}, {ListedButRefused, 47, false}, {NoPowerInBetween, 48, false}, {PausedInBetween, 48, false},
		{OddPowerInBetween, 48, false}, {ForEverPoweringOn, 48, false}, {FutureState, 51, false}, {ResetInActionInfo, 52, true}, {ResetByPower, 52, false},
		{NoBootMode, 53, false}, {BootModeReadOnly, 53, false}, {BootWantsAll, 53, false}, {ETagWeak, 55, false}, {ETagUnquoted, 55, false},
		{ETagRefused, 55, false}, {NoContinuous, 56, false}, {OnceSaysContinuous, 57, false}, {DisabledWithNone, 58, false},
		{DisabledRefused, 58, false}, {BootLockedInPOST, 60, false}, {HTTPBoot, 62, false}, {HTTPBootWantsTLS, 62, false}, {SecureBootFlaky, 63, false},
		{FirstSlotDead, 66, false}, {InsertRefusesFlags, 68, false}, {InsertWantsProtocol, 68, false}, {InsertWantsMethod, 68, false},
		{InsertWantsUser, 68, false}, {EjectWantsObject, 69, false}, {EjectEmptyRefused, 69, false}, {StaleMedium, 70, true},
		{ImageNameKept, 70, false}, {ConnectedViaLies, 70, false}, {MediaDetached, 71, false}, {MediaJobConflict, 71, false},
		{NoInsert, 72, false}, {OneMedium, 73, false}, {LicenceDell, 74, false}, {LicenceHPE, 74, false}, {LicenceSupermicro, 74, false},
		{LicenceFujitsu, 74, false}, {ImageWantsSuffix, 75, false}, {ImageWantsTLS, 75, false}, {ImageFromFilesOnly, 75, false},
		{InsertLies, 75, false}, {TaskVanishes, 76, false}, {EjectDisturbs, 78, false},
	}
}

// Acted tells whether the BMC behaved so at least once since Start: a test that
// went well without meeting the quirk proves nothing of it.
func (b *BMC) Acted(q Quirk) bool {
	b.faults.mu.Lock()
	defer b.faults.mu.Unlock()
	return b.faults.acted[q]
}

// known tells a quirk that a fault can give.
func (q Quirk) known() bool {
	return slices.ContainsFunc(Quirks(), func(h QuirkHelp) bool { return h.Quirk == q && !h.Start })
}

// is tells whether the BMC behaves so on this occasion. It counts the occasion
// for faults that give the quirk, so it is asked once.
func (b *BMC) is(q Quirk) bool {
	so := b.has(q) || b.faults.quirk(q)
	if so {
		b.faults.mu.Lock()
		defer b.faults.mu.Unlock()
		if b.faults.acted == nil {
			b.faults.acted = map[Quirk]bool{}
		}
		b.faults.acted[q] = true
	}
	return so
}
