package bmc

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"metalrise.dev/fleet"
)

const maxVariants = 6 // of one insert request; four are enough for every BMC known

// Insert puts the image at imageURL into a virtual optical drive and returns
// once the BMC shows it there. What is in any optical drive is ejected first:
// BMCs are known to claim media they no longer hold, and with two discs nobody
// can say which one boots. Faults: BMC-007 no usable drive or
// no licence, BMC-008 refused, BMC-012 accepted but not shown; an uncertain
// fault means that Look must tell.
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
	slots, err := s.slots(ctx, sys)
	if err != nil {
		return err
	}
	if len(slots) == 0 {
		return fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, nil, "%s has no virtual drive that takes a CD image", sys.path)
	}
	if err := s.emptyAll(ctx, slots); err != nil {
		return err
	}
	var last error
	for _, sl := range slots {
		if last = s.insertInto(ctx, sl, u); last == nil {
			return s.awaitMedium(ctx, sl.n.path, imageURL)
		}
		if fleet.KindOf(last) != fleet.Unsupported {
			return last
		}
	}
	return last
}

// insertInto sends the insert request in the forms BMCs are known to want: with
// the two standard flags first, then as the BMC's own complaints say.
func (s *Session) insertInto(ctx context.Context, sl slot, u *url.URL) error {
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
		if a == nil || a.status != http.StatusBadRequest && a.status != http.StatusUnprocessableEntity || fleet.KindOf(err) != fleet.Invalid {
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
		return s.change(ctx, sl.n, body)
	}
	return s.do(ctx, ask{method: http.MethodPost, path: sl.insert, body: body, wait: s.opts.InsertTimeout})
}

// notFetched are the message keys of a BMC that understood the request but could
// not load the image: other forms of the request would not help.
var notFetched = [...]string{
	"CouldNotEstablishConnection", "SourceDoesNotSupportProtocol", "AccessDenied",
	"ResourceAtUriUnauthorized", "ResourceAtUriInUnknownFormat", "TransferFailed",
}

// fetchFault names the cause when a BMC could not load the image.
func fetchFault(err error) error {
	var r *refusal
	if errors.As(err, &r) && r.says(notFetched[:]...) {
		return fleet.NewFault(fleet.CodeMediaLost, fleet.Transient, r, "the BMC cannot load the image")
	}
	return err
}

// spareBodies are tried where the BMC's complaint names no property.
func spareBodies(u *url.URL) []map[string]any {
	image, scheme := u.String(), strings.ToUpper(u.Scheme)
	return []map[string]any{
		{"Image": image},
		{"Image": image, "TransferProtocolType": scheme},
		{"Image": image, "TransferProtocolType": scheme, "TransferMethod": "Stream", "Inserted": true, "WriteProtected": true},
	}
}

// amend drops what the BMC says it does not know and adds what it says it
// misses, both by the message keys of the Redfish base registry.
func amend(body map[string]any, r *refusal, u *url.URL) map[string]any {
	out := map[string]any{}
	for k, v := range body {
		out[k] = v
	}
	if r == nil {
		return out
	}
	offer := map[string]any{
		"TransferProtocolType": strings.ToUpper(u.Scheme), "TransferMethod": "Stream",
		"Inserted": true, "WriteProtected": true, "UserName": "", "Password": "", "MediaType": "CD",
	}
	for _, m := range r.messages {
		for _, arg := range m.args {
			name := arg[strings.LastIndexAny(arg, "/.#")+1:]
			switch m.key() {
			case "PropertyUnknown", "PropertyNotWritable", "ActionParameterUnknown", "ActionParameterNotSupported",
				"ActionParameterValueError", "ActionParameterValueTypeError", "PropertyValueError":
				if name != "Image" {
					delete(out, name)
				}
			case "PropertyMissing", "ActionParameterMissing", "CreateFailedMissingReqProperties":
				if v, ok := offer[name]; ok {
					out[name] = v
				}
			}
		}
	}
	return out
}

func keysOf(body map[string]any) string {
	var b strings.Builder
	for _, k := range []string{"Image", "Inserted", "WriteProtected", "TransferProtocolType", "TransferMethod", "UserName", "Password", "MediaType"} {
		if _, ok := body[k]; ok {
			b.WriteString(k + " ")
		}
	}
	return b.String()
}

// awaitMedium looks until the drive shows the image.
func (s *Session) awaitMedium(ctx context.Context, slotPath, imageURL string) error {
	var shown MediaState
	err := s.until(ctx, func() (bool, error) {
		n, _, err := s.get(ctx, slotPath, nil)
		if err != nil {
			return false, err
		}
		shown = readSlot(n).state()
		return shown.Inserted && isImage(shown.Image, n.str("ImageName"), imageURL), nil
	})
	if err != nil {
		return fleet.NewFault(fleet.CodeMediaLost, fleet.Transient, err, "%s accepted the medium but shows inserted=%t, image %q", slotPath, shown.Inserted, withoutQuery(shown.Image))
	}
	return nil
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

// Eject empties every virtual optical drive of the server. Nothing to eject is
// a success. An uncertain fault means that Look must tell.
func (s *Session) Eject(ctx context.Context, systemURI string) error {
	sys, err := s.system(ctx, systemURI)
	if err != nil {
		return s.wrap("eject media at", err)
	}
	slots, err := s.slots(ctx, sys)
	if err != nil {
		return s.wrap("eject media at", err)
	}
	return s.wrap("eject media at", s.emptyAll(ctx, slots))
}

// emptyAll ejects what the drives hold. One drive may be shown under the system
// and under its manager: after an eject the next is read anew.
func (s *Session) emptyAll(ctx context.Context, slots []slot) error {
	var errs []error
	ejected := false
	for _, sl := range slots {
		if !sl.state().Inserted {
			continue
		}
		if ejected {
			n, _, err := s.get(ctx, sl.n.path, nil)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if sl = readSlot(n); !sl.state().Inserted {
				continue
			}
		}
		errs = append(errs, s.empty(ctx, sl))
		ejected = true
	}
	return firstFault(errs)
}

// firstFault joins errors so that an uncertain one comes first: it decides what
// the caller must do.
func firstFault(errs []error) error {
	slices.SortStableFunc(errs, func(a, b error) int {
		unsure := func(err error) int {
			if err != nil && fleet.KindOf(err) == fleet.UnsureKind {
				return 0
			}
			return 1
		}
		return unsure(a) - unsure(b)
	})
	return errors.Join(errs...)
}

// empty ejects one drive and waits until it shows so.
func (s *Session) empty(ctx context.Context, sl slot) error {
	var a *answer
	var err error
	if sl.eject != "" {
		// An empty object, because iLO refuses an empty body.
		a, err = s.do(ctx, ask{method: http.MethodPost, path: sl.eject, body: map[string]any{}})
	} else {
		a, err = s.change(ctx, sl.n, map[string]any{"Image": nil, "Inserted": false})
		if a != nil && a.status == http.StatusBadRequest {
			a, err = s.change(ctx, sl.n, map[string]any{"Image": nil})
		}
	}
	if err == nil {
		err = s.awaitTask(ctx, a)
	}
	if err != nil {
		if fleet.KindOf(err) == fleet.UnsureKind || fleet.CodeOf(err) == fleet.CodeBMCLoginRefused {
			return err
		}
		if n, _, look := s.get(ctx, sl.n.path, nil); look == nil && !readSlot(n).state().Inserted {
			return nil // it was empty already
		}
		return err
	}
	waited := s.until(ctx, func() (bool, error) {
		n, _, err := s.get(ctx, sl.n.path, nil)
		return err == nil && !readSlot(n).state().Inserted, err
	})
	if waited != nil {
		return fleet.NewFault(fleet.CodeBMCRejected, fleet.Transient, waited, "%s accepted to eject but still shows the medium", sl.n.path)
	}
	return nil
}
