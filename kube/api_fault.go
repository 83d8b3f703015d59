package kube

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metalrise.dev/fleet"
)

// fault gives an error of the API its code and kind. Everything that we ask of
// the API may be asked again, so a request whose answer is lost is transient,
// not uncertain. An error that has a fault already keeps it.
func (c *Cluster) fault(err error, what string) error {
	var known *fleet.Fault
	var status apierrors.APIStatus
	var foreign x509.UnknownAuthorityError
	var verify *tls.CertificateVerificationError
	var name x509.HostnameError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return err
	case errors.As(err, &status):
		code, kind := judgeStatus(status.Status())
		return fleet.NewFault(code, kind, &apiWords{status.Status(), err}, "%s", what)
	case errors.Is(err, context.Canceled):
		return fleet.NewFault(fleet.CodeInterrupted, fleet.Transient, err, "%s", what)
	case errors.As(err, &foreign), errors.As(err, &name):
		return fleet.NewFault(fleet.CodeAPIUnreachable, fleet.Conflict, err,
			"%s: what answers at %s is not this cluster's API: another cluster may hold the address", what, c.Endpoint())
	case errors.As(err, &verify):
		return fleet.NewFault(fleet.CodeAPIUnreachable, fleet.Transient, err,
			"%s: the certificate of %s does not hold by this computer's clock", what, c.Endpoint())
	}
	return fleet.NewFault(fleet.CodeAPIUnreachable, fleet.Transient, err, "%s at %s", what, c.Endpoint())
}

// judgeStatus tells by the number alone. 429, 503 and 504 are an API that is
// starting, overloaded or without a majority of etcd; 500 is most often a
// webhook or the store behind it.
func judgeStatus(s metav1.Status) (fleet.Code, fleet.Kind) {
	switch s.Code {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusBadGateway, http.StatusRequestTimeout:
		return fleet.CodeAPIUnreachable, fleet.Transient
	case http.StatusUnauthorized, http.StatusForbidden:
		return fleet.CodeAPIRefused, fleet.Denied
	case http.StatusConflict:
		return fleet.CodeAPIRefused, fleet.Conflict
	}
	if s.Code >= 500 {
		return fleet.CodeAPIRefused, fleet.Transient
	}
	return fleet.CodeAPIRefused, fleet.Invalid
}

// apiWords shows what the API said, cleaned and bounded.
type apiWords struct {
	status metav1.Status
	err    error
}

func (e *apiWords) Error() string { return "the API says: " + words(e.status.Message) }
func (e *apiWords) Unwrap() error { return e.err }

func isGone(err error) bool { return err != nil && apierrors.IsNotFound(err) }

// maxWords bounds what is quoted of others.
const maxWords = 600

// words makes text of others fit for one line of a terminal.
func words(s string) string {
	s = strings.ToValidUTF8(s, "?")
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0 || r == ' ' }), " ")
	if len(s) > maxWords {
		s = strings.ToValidUTF8(s[:maxWords], "") + " …"
	}
	return s
}
