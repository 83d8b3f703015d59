package bmc

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"path"
	"strings"

	"metalrise.dev/fleet"
)

// Insert puts the image at imageURL into a virtual optical drive and returns
// once the BMC shows it there. What is in any optical drive is ejected first:
// BMCs are known to claim media they no longer hold, and with two discs nobody
// can say which one boots. The drive is chosen by what it can do; one that
// turns out not to take the image gives way to the next. Faults: BMC-007 no
// usable drive, BMC-030 no licence, BMC-008 refused, BMC-012 accepted but not
// shown; an uncertain fault means that Look must tell.
func (s *Session) Insert(ctx context.Context, systemURI, imageURL string) error {
	return s.wrap("insert medium at", s.insert(ctx, systemURI, imageURL))
}

func (s *Session) insert(ctx context.Context, systemURI, imageURL string) error {
	u, err := url.Parse(imageURL)
	if err != nil || u.Host == "" {
		return fleet.NewFault(fleet.CodeBMCRejected, fleet.Invalid, nil, "the image's address is not a URL with a host")
	}
	sys, err := s.system(ctx, systemURI)
	if err != nil {
		return err
	}
	slots, unusable, err := s.slots(ctx, sys)
	if err != nil {
		return err
	}
	if len(slots) == 0 {
		return noDrive(sys, unusable)
	}
	if err := s.emptyAll(ctx, slots); err != nil {
		return err
	}
	var last error
	for _, sl := range slots {
		if last = s.insertInto(ctx, sl, u); last == nil {
			return s.awaitMedium(ctx, sl, imageURL)
		}
		if fleet.KindOf(last) != fleet.Unsupported {
			return last
		}
	}
	return last
}

// noDrive says why no drive will do. An iRMC without licence is one reason.
func noDrive(sys node, why []string) error {
	text := "it shows none"
	if len(why) > 0 {
		text = strings.Join(why, "; ")
	}
	code, kind := fleet.CodeBMCUnsupported, fleet.Unsupported
	if strings.Contains(text, withoutLicence) {
		code, kind = fleet.CodeBMCLicence, fleet.Denied
	}
	return fleet.NewFault(code, kind, nil, "%s has no virtual drive that takes a CD image: %s", sys.path, text)
}

// insertInto sends the insert request, again and again for Options.Settle while
// the BMC says that the drive is taken, after ejecting once more, or that it is
// not ready.
func (s *Session) insertInto(ctx context.Context, sl slot, u *url.URL) error {
	if !sl.loads(u.Scheme) {
		return fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, nil, "%s loads images over %s only", sl.path, strings.Join(sl.protocols, ", "))
	}
	var last error
	waited := s.until(ctx, func() (bool, error) {
		last = s.insertBy(ctx, sl, u)
		var r *refusal
		if !errors.As(last, &r) || fleet.KindOf(last) == fleet.UnsureKind {
			return true, nil
		}
		taken := r.says(driveTaken[:]...)
		if taken {
			_, _ = s.sendEject(ctx, sl) // only the next try tells whether it helped
		}
		return !taken && !r.isNotReady(), nil
	})
	var r *refusal
	if errors.As(last, &r) && r.says("VRM0021", "VRM0009") {
		return fleet.NewFault(fleet.CodeBMCRejected, fleet.Transient, last, "%s is taken or detached: end virtual console sessions; on iDRAC set VirtualMedia.1.Attached to AutoAttach", sl.path)
	}
	if last == nil && waited != nil {
		return waited
	}
	return last
}

func (s *Session) insertBy(ctx context.Context, sl slot, u *url.URL) error {
	var a *answer
	var err error
	switch sl.how {
	case byHuawei:
		a, err = s.vmm(ctx, sl, "Connect", u.String())
	case bySupermicro:
		a, err = s.mountSupermicro(ctx, sl, u)
	case byFujitsu:
		a, err = s.connectFujitsu(ctx, sl, u)
	default:
		return s.insertStandard(ctx, sl, u)
	}
	if err == nil {
		err = s.awaitTask(ctx, a)
	}
	return fetchFault(err)
}

// insertStandard sends the request in the forms BMCs are known to want: with
// the two standard flags first, then as the BMC's own complaints say.
func (s *Session) insertStandard(ctx context.Context, sl slot, u *url.URL) error {
	body := map[string]any{"Image": u.String(), "Inserted": true}
	if sl.how == byAction {
		body["WriteProtected"] = true
	}
	tried := map[string]bool{}
	var first error
	spare := spareBodies(u)
	for range maxVariants {
		tried[keysOf(body)] = true
		a, err := s.sendInsert(ctx, sl, body)
		if err == nil {
			err = s.awaitTask(ctx, a)
		}
		if err = fetchFault(err); err == nil || fleet.CodeOf(err) == fleet.CodeMediaLost {
			return err
		}
		if first == nil {
			first = err
		}
		if !isMalformed(a, err) {
			return err
		}
		var r *refusal
		errors.As(err, &r)
		body = amend(body, r, u)
		for tried[keysOf(body)] && len(spare) > 0 {
			body, spare = spare[0], spare[1:]
		}
		if tried[keysOf(body)] {
			break
		}
	}
	return first
}

func (s *Session) sendInsert(ctx context.Context, sl slot, body map[string]any) (*answer, error) {
	if sl.how == byPatch {
		return s.changeFor(ctx, sl.n, body, s.opts.InsertTimeout)
	}
	return s.do(ctx, ask{method: http.MethodPost, path: sl.insert, body: body, wait: s.opts.InsertTimeout})
}

// driveTaken are the message keys of a BMC whose virtual drive is in use by
// somebody, detached, or held by a job: Dell VRM and SYS446, RAC0720; Redfish
// base registry; iLO.
var driveTaken = [...]string{
	"VRM0021", "VRM0009", "SYS446", "RAC0720", "ResourceInUse", "VirtualMediaIsConnected", "MaxVirtualMediaConnectionEstablished",
}

// notFetched are the message keys of a BMC that understood the request but could
// not load the image: other forms of the request would not help.
var notFetched = [...]string{
	"CouldNotEstablishConnection", "AccessDenied", "ConnectionFailed",
	"ResourceAtUriUnauthorized", "ResourceAtUriInUnknownFormat", "TransferFailed",
}

// protocolRefused are those of a BMC that does not load over this protocol.
var protocolRefused = [...]string{"FileTransferProtocolMismatch", "SourceDoesNotSupportProtocol", "UnsupportedProtocol"}

// fetchFault names the cause when a BMC could not or would not load the image.
func fetchFault(err error) error {
	var r *refusal
	switch {
	case !errors.As(err, &r):
		return err
	case r.says(protocolRefused[:]...):
		return fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, r, "the BMC does not load images over this protocol")
	case r.says(notFetched[:]...):
		return fleet.NewFault(fleet.CodeMediaLost, fleet.Transient, r, "the BMC cannot load the image")
	}
	return err
}

// awaitMedium looks until the drive shows the image.
func (s *Session) awaitMedium(ctx context.Context, sl slot, imageURL string) error {
	var shown MediaState
	checks := false
	err := s.until(ctx, func() (bool, error) {
		now, err := s.readDrive(ctx, sl.drivePlace)
		if err != nil {
			return false, err
		}
		shown, checks = now.shown, now.n.flag("VerifyCertificate").Or(false)
		return shown.Inserted && isImage(shown.Image, now.n.str("ImageName"), imageURL), nil
	})
	if err == nil {
		return nil
	}
	hint := ""
	if checks && strings.HasPrefix(imageURL, "https:") {
		hint = "; the BMC verifies the image server's certificate (VerifyCertificate is true there)"
	}
	return fleet.NewFault(fleet.CodeMediaLost, fleet.Transient, err, "%s accepted the medium but shows inserted=%t, image %q%s", sl.path, shown.Inserted, withoutQuery(shown.Image), hint)
}

// isImage compares what a drive shows with what it was given. Some BMCs show
// only the file name, or nothing.
func isImage(image, name, imageURL string) bool {
	if image == imageURL || image == "" && name == "" {
		return true
	}
	a, errA := url.Parse(image)
	b, errB := url.Parse(imageURL)
	if errA == nil && errB == nil && a.Host != "" {
		return a.Path == b.Path && strings.EqualFold(a.Host, b.Host) && (a.RawQuery == b.RawQuery || a.RawQuery == "")
	}
	base := path.Base(b.Path)
	return path.Base(strings.ReplaceAll(image, `\`, "/")) == base || image == "" && name == base
}

// withoutQuery keeps tokens in URLs out of error texts.
func withoutQuery(s string) string {
	s, _, _ = strings.Cut(s, "?")
	return s
}
