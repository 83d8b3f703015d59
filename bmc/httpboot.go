package bmc

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"metalrise.dev/fleet"
)

// BootHTTP makes the server's next start fetch imageURL by UEFI HTTP boot, once.
// The address goes to Boot.HttpBootUri of the system or of its settings object;
// Dell machines have BIOS attributes (HttpDev1Uri and its kin) instead, which
// take effect in the start that follows. Faults as BootOnce; a firmware that
// refuses plain http is BMC-007.
func (s *Session) BootHTTP(ctx context.Context, systemURI, imageURL string) error {
	return s.wrap("set boot once by http at", s.patiently(ctx, func() error { return s.bootHTTP(ctx, systemURI, imageURL) }))
}

func (s *Session) bootHTTP(ctx context.Context, systemURI, imageURL string) error {
	u, err := url.Parse(imageURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fleet.NewFault(fleet.CodeBMCRejected, fleet.Invalid, nil, "the image's address is not an http or https URL with a host")
	}
	w := wish{target: UefiHTTP, uri: imageURL}
	sys, places, err := s.bootPlaces(ctx, systemURI, w)
	if err != nil {
		return err
	}
	for _, n := range places {
		if _, ok := n.object("Boot").m["HttpBootUri"]; ok {
			return s.bootOnce(ctx, sys.path, w)
		}
	}
	byBIOS, err := s.httpByBIOS(ctx, sys, u)
	switch {
	case err != nil:
		return err
	case byBIOS:
		return s.bootOnce(ctx, sys.path, wish{target: UefiHTTP})
	}
	err = s.bootOnce(ctx, sys.path, w) // some take it without showing it
	var r *refusal
	if errors.As(err, &r) && r.says("PropertyUnknown", "PropertyNotWritable") {
		return fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, err, "%s takes no address for UEFI HTTP boot", sys.path)
	}
	return err
}

// httpByBIOS stages the address as a BIOS attribute where the BIOS has one.
func (s *Session) httpByBIOS(ctx context.Context, sys node, u *url.URL) (bool, error) {
	if sys.link("Bios") == "" {
		return false, nil
	}
	b, err := s.bios(ctx, sys)
	if err != nil {
		if fleet.KindOf(err) == fleet.Unsupported {
			return false, nil
		}
		return false, err
	}
	if _, ok := b.Values["HttpDev1Uri"]; !ok {
		return false, nil
	}
	want := map[string]string{"HttpDev1EnDis": "Enabled", "HttpDev1Uri": u.String()}
	if u.Scheme == "http" {
		want["HttpDev1TlsMode"] = "None" // with TLS the firmware refuses plain http
	}
	_, err = s.stage(ctx, b, want)
	if refused := httpRefused(err, u.String()); refused != nil {
		return false, refused
	}
	return err == nil, err
}

// httpRefused names a firmware that takes https only. Dell says so as UEFI0417.
func httpRefused(err error, uri string) error {
	var r *refusal
	if !strings.HasPrefix(uri, "http:") || !errors.As(err, &r) || !r.says("UEFI0417") {
		return nil
	}
	return fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, r, "the firmware refuses UEFI HTTP boot without TLS: give an https address")
}
