package bmc

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"metalrise.dev/fleet"
)

const etagKey = "@odata.etag"

// keepETag makes the ETag header, which is the valid one, the resource's own.
func keepETag(n node, a *answer) {
	if h := a.header.Get("ETag"); h != "" {
		n.m[etagKey] = h
	}
}

// readForChange reads a resource with its ETag.
func (s *Session) readForChange(ctx context.Context, path string) (node, error) {
	n, a, err := s.get(ctx, path, nil)
	if err != nil {
		return node{}, err
	}
	keepETag(n, a)
	return n, nil
}

// etagForms are the values of If-Match that BMCs are known to want, in the
// order they are tried: as it came, strong, without the "-gzip" that a
// compressing web server adds, without quotes, and none at all (gofish #174,
// #512). "" sends no header. A BMC that gave no ETag may still want a star.
func etagForms(etag string) []string {
	if etag == "" {
		return []string{"", "*"}
	}
	strong := strings.TrimPrefix(etag, "W/")
	plain := strings.Replace(strong, `-gzip"`, `"`, 1)
	var out []string
	for _, f := range []string{etag, strong, plain, strings.Trim(plain, `"`), ""} {
		if !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return out
}

// change sends a PATCH, with the forms of the ETag in turn while the BMC says
// that the precondition fails; a resource that somebody else changed meanwhile
// is read again first. Where the BMC says that the property lives on the
// resource's future state (AMI), the PATCH goes there. Nothing was done by a
// request that was answered in these ways.
func (s *Session) change(ctx context.Context, n node, body any) (*answer, error) {
	return s.changeFor(ctx, n, body, 0)
}

// changeFor is change with a time for each request; 0 is the usual one.
func (s *Session) changeFor(ctx context.Context, n node, body any, wait time.Duration) (*answer, error) {
	a, err := s.changeHere(ctx, n, body, wait)
	var r *refusal
	if !errors.As(err, &r) || !r.says("OperationSupportedInFutureStateURI") {
		return a, err
	}
	future, readErr := s.readForChange(ctx, futureState(n, r))
	if readErr != nil {
		return a, errors.Join(err, readErr)
	}
	if same(future.path) == same(n.path) {
		return a, err
	}
	return s.changeHere(ctx, future, body, wait)
}

// futureState is where AMI BMCs take settings for the next start: named in the
// message, linked as the settings object, or by convention below the resource.
func futureState(n node, r *refusal) string {
	for _, m := range r.messages {
		for _, arg := range m.args {
			if p, err := cleanPath(arg); err == nil && strings.HasPrefix(arg, "/redfish/") {
				return p
			}
		}
	}
	if p := n.object("@Redfish.Settings").link("SettingsObject"); p != "" {
		return p
	}
	return strings.TrimSuffix(n.path, "/") + "/SD"
}

func (s *Session) changeHere(ctx context.Context, n node, body any, wait time.Duration) (*answer, error) {
	etag, _ := n.m[etagKey].(string)
	forms := etagForms(etag)
	reread := false
	var a *answer
	var err error
	for i := 0; i < len(forms); i++ {
		h := http.Header{}
		if forms[i] != "" {
			h.Set("If-Match", forms[i])
		}
		a, err = s.do(ctx, ask{method: http.MethodPatch, path: n.path, body: body, header: h, wait: wait})
		if !isPrecondition(a, err) {
			return a, err
		}
		if reread {
			continue
		}
		reread = true
		if again, readErr := s.readForChange(ctx, n.path); readErr == nil {
			if now, _ := again.m[etagKey].(string); now != "" && now != etag {
				forms, i = etagForms(now), -1
			}
		}
	}
	return a, err
}

// isPrecondition tells an answer that only wants another If-Match. Some BMCs
// say so with status 400.
func isPrecondition(a *answer, err error) bool {
	if a == nil || err == nil {
		return false
	}
	var r *refusal
	return a.status == http.StatusPreconditionFailed || a.status == http.StatusPreconditionRequired ||
		a.status == http.StatusBadRequest && errors.As(err, &r) && r.says("PreconditionFailed", "PreconditionRequired", "HeaderMissing", "HeaderInvalid")
}

// isMissing tells that a resource is not there.
func isMissing(err error) bool {
	var r *refusal
	return errors.As(err, &r) && (r.status == http.StatusNotFound || r.status == http.StatusGone)
}

// patiently looks like until, but for as long as a server may take to start:
// many BMCs refuse changes while its firmware tests itself. It repeats only
// what was refused because the BMC is not ready.
func (s *Session) patiently(ctx context.Context, act func() error) error {
	var last error
	err := s.within(ctx, 5*s.opts.Settle, func() (bool, error) {
		last = act()
		var r *refusal
		return !errors.As(last, &r) || !r.isNotReady() || fleet.KindOf(last) == fleet.UnsureKind, nil
	})
	if last != nil {
		return last
	}
	return err
}
