package redfish

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"metalrise.dev/lab/machine"
)

// Config is everything that makes one emulated BMC.
type Config struct {
	Listen             string // "127.77.0.11:443", or "127.0.0.1:0" for any free port
	Username, Password string // the one account; both needed
	Spec               machine.Spec
	Hardware           machine.Hardware
	// Dir keeps what outlives a restart. "" keeps nothing and is allowed with Lazy media only.
	Dir         string
	Delays      Delays
	Limits      Limits
	Media       MediaMode
	Personality Personality // the zero value is Standard()
	// Certificate is shared by many BMCs of one process; nil makes an ECDSA
	// P-256 one for this BMC, kept in Dir.
	Certificate *tls.Certificate
	// MediaRoots verifies image servers once a client sets VerifyCertificate on a
	// slot; nil means the roots of the host. By default nothing is verified, as
	// on most real BMCs.
	MediaRoots *x509.CertPool
	Console    io.Writer    // serial console of the machine; nil discards
	Log        *slog.Logger // nil discards
	// Reshape is shown every resource before it is answered (path without
	// trailing slash, nil for a path that does not exist) and gives what to answer
	// in its place; nil is 404. It must not keep or block. May be nil.
	Reshape func(path string, body map[string]any) map[string]any
}

// Delays are real waits, so that clients meet states in between. Zero is no wait.
type Delays struct {
	PowerOn  time.Duration // PoweringOn
	PowerOff time.Duration // PoweringOff, after the power is already cut
	POST     time.Duration // from reset to the first boot attempt
	Response time.Duration // before every answer
	Show     time.Duration // row 49: how long the old PowerState is still shown after a change
	Rest     time.Duration // row 50: how long On is refused with 409 after the power went off
	Insert   time.Duration // row 76: from an insert that was answered as done to the medium that shows
}

// Limits bound one BMC. Zero fields get the default named beside them.
type Limits struct {
	Sessions         int           // 16
	SessionTimeout   time.Duration // 30 minutes without a request
	LockoutThreshold int           // 5 failed logins; negative: never lock
	LockoutDuration  time.Duration // 30 seconds; also forgets failures after this long
	MediaBytes       int64         // 16 GiB: largest image
}

func (l Limits) withDefaults() Limits {
	if l.Sessions == 0 {
		l.Sessions = 16
	}
	if l.SessionTimeout == 0 {
		l.SessionTimeout = 30 * time.Minute
	}
	if l.LockoutThreshold == 0 {
		l.LockoutThreshold = 5
	}
	if l.LockoutDuration == 0 {
		l.LockoutDuration = 30 * time.Second
	}
	if l.MediaBytes == 0 {
		l.MediaBytes = 16 << 30
	}
	return l
}

// MediaMode says what inserting a medium does.
type MediaMode int

const (
	Download MediaMode = iota // fetch the whole image into Dir
	Lazy                      // keep the URL only: BootSource.ISO is then the URL itself
)

// MediaPlace says below which resource a BMC shows its virtual media.
type MediaPlace int

const (
	UnderBoth    MediaPlace = iota // the same slots, seen from the system and from the manager
	UnderSystem                    // newer BMCs
	UnderManager                   // older BMCs
)

// OnceRule says what becomes of a one-time boot override when it was used.
type OnceRule int

const (
	OnceCleared OnceRule = iota // the standard: used for one boot, then Disabled
	OnceKept                    // a bug seen in the field: it acts at every boot until changed
)

// RepeatRule says how a reset is answered that asks for the state there already is.
type RepeatRule int

const (
	RefuseRepeat RepeatRule = iota // 409 with a message id
	AcceptRepeat                   // 204 without effect
)

// InsertRule says when InsertMedia answers.
type InsertRule int

const (
	InsertWaits InsertRule = iota // after the download, with its outcome
	InsertTask                    // at once with 202 and a task to follow
	InsertLate                    // at once with 204; the medium shows after Delays.Insert
)

// MediaWay says by what request a medium is inserted and ejected.
type MediaWay int

const (
	MediaByAction MediaWay = iota // InsertMedia and EjectMedia
	MediaByPatch                  // row 65: PATCH Image and Inserted; there is no action
	MediaByVmm                    // row 77: Huawei's action VmmControl with Connect and Disconnect
	MediaByCfgCD                  // row 77: Supermicro's CfgCD, PATCH Host and Path, then IsoConfig.Mount
	MediaByFTS                    // row 77: Fujitsu's FTSComputerSystem.VirtualMedia, an action of the system
)

// MatchRule says whether a change must name the version it is based on.
type MatchRule int

const (
	MatchOptional MatchRule = iota // If-Match is honoured when given
	MatchRequired                  // a PATCH without If-Match is answered 428
)

// Slot is one virtual media slot. Only slots that take a CD or DVD have actions;
// others are there because real BMCs show them and clients must choose.
type Slot struct {
	ID    string
	Types []string // Redfish MediaTypes: CD, DVD, Floppy, USBStick
}

func (s Slot) optical() bool {
	for _, t := range s.Types {
		if t == "CD" || t == "DVD" {
			return true
		}
	}
	return false
}

// Personality is what differs between BMCs of different makers while all of them
// call it Redfish.
type Personality struct {
	Name           string
	SystemID       string // "" means the serial number
	ManagerID      string
	ChassisID      string
	Product        string
	Firmware       string // version of the BMC firmware
	Virtualization string // BIOS attribute that switches CPU virtualization
	MediaPlace     MediaPlace
	Slots          []Slot
	Match          MatchRule
	Once           OnceRule
	Repeat         RepeatRule
	Insert         InsertRule
	PageSize       int    // row 27: members in one answer; 0 gives all
	Vendor         string // "" takes that of the machine
	OEM            string // key under Oem of the service root; "" has none
	Registry       string // of messages, with the last dot; "" is "Base.1.18."
	Media          MediaWay
	ResetTypes     []ResetType    // row 47: the ones there are; nil has all
	Targets        []Target       // row 59: boot targets there are; nil has the standard ones
	BootSettings   string         // row 54: "/Settings", "/Pending" or "/SD": where the override must be set; "" is the system itself
	BIOS           map[string]any // further BIOS attributes
	Quirks         []Quirk
}

// ParsePersonality finds one by its name.
func ParsePersonality(name string) (Personality, error) {
	var names []string
	for _, p := range Personalities() {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return Personality{}, fmt.Errorf("bmc personality %q: unknown; want one of %s", name, strings.Join(names, ", "))
}

// check reports what makes a Config unusable.
func (c Config) check() error {
	switch {
	case c.Hardware == nil:
		return fmt.Errorf("bmc of %s: no hardware behind it", c.Spec.Name)
	case c.Username == "" || c.Password == "":
		return fmt.Errorf("bmc of %s: username and password are both needed", c.Spec.Name)
	case c.Spec.Serial == "" || c.Spec.UUID == "":
		return fmt.Errorf("bmc of %s: the machine needs a serial number and a UUID", c.Spec.Name)
	case c.Dir == "" && c.Media == Download:
		return fmt.Errorf("bmc of %s: downloaded media need a directory; set Dir or use Lazy media", c.Spec.Name)
	}
	for _, s := range c.Personality.Slots {
		if s.optical() {
			return nil
		}
	}
	return fmt.Errorf("bmc of %s: personality %q has no optical slot", c.Spec.Name, c.Personality.Name)
}
