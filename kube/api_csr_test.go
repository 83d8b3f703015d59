package kube

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"net"
	"net/url"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"

	"metalrise.dev/fleet"
)

// ask is one request as the API shows it.
type ask struct {
	signer, user string
	groups       []string
	usages       []certificatesv1.KeyUsage
	template     *x509.CertificateRequest
	raw          []byte // in place of template
	conditions   []certificatesv1.CertificateSigningRequestCondition
}

func (a ask) request(t testing.TB) *certificatesv1.CertificateSigningRequest {
	raw := a.raw
	if raw == nil {
		_, raw = apiRequest(t, a.template)
	}
	r := &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{
		Request: raw, SignerName: a.signer, Username: a.user, Groups: a.groups, Usages: a.usages}}
	r.Status.Conditions = a.conditions
	return r
}

// apiGuest knows one token of each of the first two nodes.
func apiGuest(id string) (fleet.Assignment, bool) {
	switch p := apiPlan(); id {
	case "aaaaaa":
		return p.Assignments[0], true
	case "bbbbbb":
		return p.Assignments[1], true
	}
	return fleet.Assignment{}, false
}

// honestClient is a kubelet's first request; honestServer its next.
func honestClient() ask {
	return ask{signer: certificatesv1.KubeAPIServerClientKubeletSignerName, user: "system:bootstrap:aaaaaa",
		groups:   []string{"system:bootstrappers", tokenGroup, "system:authenticated"},
		usages:   []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth},
		template: &x509.CertificateRequest{Subject: apiSubject("oslo-cp1")}}
}

func honestServer() ask {
	return ask{signer: certificatesv1.KubeletServingSignerName, user: "system:node:oslo-cp1",
		groups:   []string{"system:nodes", "system:authenticated"},
		usages:   []certificatesv1.KeyUsage{certificatesv1.UsageServerAuth, certificatesv1.UsageDigitalSignature},
		template: &x509.CertificateRequest{Subject: apiSubject("oslo-cp1"), DNSNames: []string{"oslo-cp1"}, IPAddresses: []net.IP{net.IPv4(10, 0, 1, 21)}}}
}

type judgement struct {
	name   string
	change func(*ask)
	want   act
	reason string // part of it
}

func runJudgements(t *testing.T, honest func() ask, all []judgement) {
	for _, one := range all {
		t.Run(one.name, func(t *testing.T) {
			a := honest()
			if one.change != nil {
				one.change(&a)
			}
			v := judge(apiPlan(), apiGuest, a.request(t))
			if v.act != one.want || !strings.Contains(v.reason, one.reason) {
				t.Errorf("act %d, reason %q; want %d, %q", v.act, v.reason, one.want, one.reason)
			}
			if v.act == deny && v.reason == "" {
				t.Error("denied without a reason")
			}
			if v.act != leave && v.node.Node == nil {
				t.Error("judged for no node")
			}
		})
	}
}

func TestJudgeClient(t *testing.T) {
	name := func(cn string, o ...string) func(*ask) {
		return func(a *ask) { a.template.Subject = pkix.Name{CommonName: cn, Organization: o} }
	}
	runJudgements(t, honestClient, []judgement{
		{name: "honest", want: approve},
		{name: "RSA usages", want: approve, change: func(a *ask) { a.usages = append(a.usages, certificatesv1.UsageKeyEncipherment) }},
		{name: "renewal by itself", want: approve, change: func(a *ask) { a.user, a.groups = "system:node:oslo-cp1", []string{"system:nodes"} }},
		{name: "approved already", want: leave, change: func(a *ask) {
			a.conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateApproved}}
		}},
		{name: "denied already", want: leave, change: func(a *ask) {
			a.conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateDenied}}
		}},
		{name: "another signer", want: leave, change: func(a *ask) { a.signer = certificatesv1.KubeAPIServerClientSignerName }},
		{name: "a person's own node with a person's own token", want: leave, change: func(a *ask) {
			a.user = "system:bootstrap:zzzzzz"
			name("system:node:extra", "system:nodes")(a)
		}},
		{name: "rubbish by somebody", want: leave, change: func(a *ask) { a.user, a.raw = "mallory", []byte("rubbish") }},

		{name: "another node's name", want: deny, reason: `"system:node:oslo-cp2", the planned one is "system:node:oslo-cp1"`, change: name("system:node:oslo-cp2", "system:nodes")},
		{name: "no node's name", want: deny, reason: "the planned one", change: name("system:node:extra", "system:nodes")},
		{name: "administrator", want: deny, reason: "the planned one", change: name("kubernetes-admin", "system:masters")},
		{name: "upper case", want: deny, reason: "the planned one", change: name("system:node:OSLO-CP1", "system:nodes")},
		{name: "blank behind", want: deny, reason: "the planned one", change: name("system:node:oslo-cp1 ", "system:nodes")},
		{name: "no name", want: deny, reason: "the planned one", change: name("", "system:nodes")},
		{name: "group masters too", want: deny, reason: "groups", change: name("system:node:oslo-cp1", "system:nodes", "system:masters")},
		{name: "group masters only", want: deny, reason: "groups", change: name("system:node:oslo-cp1", "system:masters")},
		{name: "no group", want: deny, reason: "groups", change: name("system:node:oslo-cp1")},
		{name: "group twice", want: deny, reason: "groups", change: name("system:node:oslo-cp1", "system:nodes", "system:nodes")},
		{name: "organizational unit", want: deny, reason: "parts", change: func(a *ask) { a.template.Subject.OrganizationalUnit = []string{"x"} }},
		{name: "two common names", want: deny, reason: "the planned one", change: func(a *ask) {
			a.template.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "system:node:oslo-cp1"}, {Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "admin"}}
		}},
		{name: "name in it", want: deny, reason: "alternative", change: func(a *ask) { a.template.DNSNames = []string{"oslo-cp1"} }},
		{name: "address in it", want: deny, reason: "alternative", change: func(a *ask) { a.template.IPAddresses = []net.IP{net.IPv4(10, 0, 1, 21)} }},
		{name: "another node's token", want: deny, reason: "oslo-cp2", change: func(a *ask) { a.user = "system:bootstrap:bbbbbb" }},
		{name: "unknown token, our name", want: deny, reason: "has not the token", change: func(a *ask) { a.user = "system:bootstrap:cccccc" }},
		{name: "unknown token, our name in upper case", want: deny, reason: "has not the token", change: func(a *ask) {
			a.user = "system:bootstrap:cccccc"
			name("system:node:OSLO-CP1", "system:nodes")(a)
		}},
		{name: "a person, our name", want: deny, reason: "jane", change: func(a *ask) { a.user = "jane" }},
		{name: "another node, our name", want: deny, reason: "oslo-cp1", change: func(a *ask) { a.user, a.groups = "system:node:oslo-cp2", []string{"system:nodes"} }},
		{name: "renewal without the group", want: deny, reason: "group", change: func(a *ask) { a.user = "system:node:oslo-cp1" }},
		{name: "token without the group", want: deny, reason: "group", change: func(a *ask) { a.groups = []string{"system:authenticated"} }},
		{name: "usage server", want: deny, reason: "usages", change: func(a *ask) { a.usages[1] = certificatesv1.UsageServerAuth }},
		{name: "usage server too", want: deny, reason: "usages", change: func(a *ask) { a.usages = append(a.usages, certificatesv1.UsageServerAuth) }},
		{name: "usage signing certificates", want: deny, reason: "usages", change: func(a *ask) { a.usages = append(a.usages, certificatesv1.UsageCertSign) }},
		{name: "usage missing", want: deny, reason: "usages", change: func(a *ask) { a.usages = a.usages[1:] }},
		{name: "usage twice", want: deny, reason: "usages", change: func(a *ask) { a.usages = append(a.usages, a.usages[1]) }},
		{name: "no usage", want: deny, reason: "usages", change: func(a *ask) { a.usages = nil }},
		{name: "rubbish", want: deny, reason: "PEM", change: func(a *ask) { a.raw = []byte("rubbish") }},
		{name: "nothing", want: deny, reason: "PEM", change: func(a *ask) { a.raw = []byte{} }},
		{name: "huge", want: deny, reason: "bytes", change: func(a *ask) { a.raw = make([]byte, maxRequest+1) }},
		{name: "two blocks", want: deny, reason: "one PEM block", change: func(a *ask) {
			_, raw := apiRequest(t, a.template)
			_, more := apiRequest(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}}})
			a.raw = append(raw, more...)
		}},
		{name: "another kind of block", want: deny, reason: "PEM", change: func(a *ask) {
			_, raw := apiRequest(t, a.template)
			block, _ := pem.Decode(raw)
			a.raw = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes})
		}},
		{name: "signature of another key", want: deny, reason: "signed", change: func(a *ask) {
			_, raw := apiRequest(t, a.template)
			block, _ := pem.Decode(raw)
			block.Bytes[len(block.Bytes)-1] ^= 1
			a.raw = pem.EncodeToMemory(block)
		}},
		{name: "an authority's extension", want: deny, reason: "extension 2.5.29.19", change: func(a *ask) {
			a.template.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}}}
		}},
		{name: "weak key", want: deny, reason: "1024 bits", change: func(a *ask) {
			t.Setenv("GODEBUG", "rsa1024min=0")
			key, err := rsa.GenerateKey(rand.Reader, 1024)
			if err != nil {
				t.Fatal(err)
			}
			der, err := x509.CreateCertificateRequest(rand.Reader, a.template, key)
			if err != nil {
				t.Fatal(err)
			}
			a.raw = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
		}},
	})
}

func TestJudgeServing(t *testing.T) {
	runJudgements(t, honestServer, []judgement{
		{name: "honest", want: approve},
		{name: "address only", want: approve, change: func(a *ask) { a.template.DNSNames = nil }},
		{name: "name only", want: approve, change: func(a *ask) { a.template.IPAddresses = nil }},
		{name: "a node of no plan", want: leave, change: func(a *ask) {
			a.user = "system:node:extra"
			a.template.Subject = apiSubject("extra")
		}},
		{name: "neither name nor address", want: deny, reason: "asks for none", change: func(a *ask) { a.template.DNSNames, a.template.IPAddresses = nil, nil }},
		{name: "another node's address", want: deny, reason: "10.0.1.22, the planned one is 10.0.1.21", change: func(a *ask) { a.template.IPAddresses = []net.IP{net.IPv4(10, 0, 1, 22)} }},
		{name: "one address more", want: deny, reason: "10.0.1.20", change: func(a *ask) { a.template.IPAddresses = append(a.template.IPAddresses, net.IPv4(10, 0, 1, 20)) }},
		{name: "an IPv6 address more", want: deny, reason: "fd00::1", change: func(a *ask) {
			a.template.IPAddresses = append(a.template.IPAddresses, net.ParseIP("fd00::1"))
		}},
		{name: "another node's name", want: deny, reason: "oslo-cp2", change: func(a *ask) { a.template.DNSNames = []string{"oslo-cp2"} }},
		{name: "one name more", want: deny, reason: "kubernetes.default", change: func(a *ask) { a.template.DNSNames = append(a.template.DNSNames, "kubernetes.default") }},
		{name: "wildcard", want: deny, reason: "*", change: func(a *ask) { a.template.DNSNames = []string{"*"} }},
		{name: "upper case", want: deny, reason: "OSLO", change: func(a *ask) { a.template.DNSNames = []string{"OSLO-CP1"} }},
		{name: "dot behind", want: deny, reason: "oslo-cp1.", change: func(a *ask) { a.template.DNSNames = []string{"oslo-cp1."} }},
		{name: "mail", want: deny, reason: "kind 1", change: func(a *ask) { a.template.EmailAddresses = []string{"a@b"} }},
		{name: "URI", want: deny, reason: "kind 6", change: func(a *ask) { a.template.URIs = []*url.URL{{Scheme: "spiffe", Host: "x"}} }},
		{name: "a name of a kind that the parser passes over", want: deny, reason: "kind 8", change: func(a *ask) {
			value, err := asn1.Marshal([]asn1.RawValue{{Class: 2, Tag: 2, Bytes: []byte("oslo-cp1")}, {Class: 2, Tag: 8, Bytes: []byte{42, 3}}})
			if err != nil {
				t.Fatal(err)
			}
			a.template.DNSNames, a.template.IPAddresses = nil, nil
			a.template.ExtraExtensions = []pkix.Extension{{Id: subjectAltName, Value: value}}
		}},
		{name: "by its token", want: deny, reason: "another node", change: func(a *ask) { a.user = "system:bootstrap:aaaaaa" }},
		{name: "by another node", want: deny, reason: "the planned one is \"system:node:oslo-cp2\"", change: func(a *ask) { a.user = "system:node:oslo-cp2" }},
		{name: "by a node of no plan for ours", want: deny, reason: "another node", change: func(a *ask) { a.user = "system:node:extra" }},
		{name: "by a person", want: deny, reason: "jane", change: func(a *ask) { a.user = "jane" }},
		{name: "without the group", want: deny, reason: "group", change: func(a *ask) { a.groups = nil }},
		{name: "group masters", want: deny, reason: "groups", change: func(a *ask) { a.template.Subject.Organization = []string{"system:masters"} }},
		{name: "usage client", want: deny, reason: "usages", change: func(a *ask) { a.usages[0] = certificatesv1.UsageClientAuth }},
		{name: "usage client too", want: deny, reason: "usages", change: func(a *ask) { a.usages = append(a.usages, certificatesv1.UsageClientAuth) }},
	})
}

// An excluded server's node is nobody's.
func TestJudgeKnowsOnlyNodes(t *testing.T) {
	p := apiPlan()
	p.Assignments[0].Role = fleet.Excluded
	if v := judge(p, apiGuest, honestServer().request(t)); v.act != leave {
		t.Errorf("%+v", v)
	}
}

// Whatever bytes come, nothing breaks, and what is approved reads as planned.
func FuzzRequest(f *testing.F) {
	_, honest := apiRequest(f, honestServer().template)
	f.Add(honest)
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n"))
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: apiSubject("oslo-cp1"), DNSNames: []string{"x"}}, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, honest := range []ask{honestServer(), honestClient()} {
			honest.raw = b
			r := honest.request(t)
			v := judge(apiPlan(), apiGuest, r)
			if v.act != approve {
				continue
			}
			block, _ := pem.Decode(b)
			ask, err := x509.ParseCertificateRequest(block.Bytes)
			if err != nil || ask.Subject.String() != "CN=system:node:oslo-cp1,O=system:nodes" || len(ask.EmailAddresses)+len(ask.URIs) > 0 {
				t.Errorf("approved: %v %v", ask, err)
			}
		}
	})
}
