package kube

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"metalrise.dev/fleet"
)

const (
	nodeUserPrefix = "system:node:"
	nodesGroup     = "system:nodes"
	maxRequest     = 64 << 10 // bytes of PEM; a kubelet's has 0.5 KB
	minRSA         = 2048     // bits, as the kubelet's own and NIST SP 800-57
)

// Admission is one certificate request that was judged, not left alone.
type Admission struct {
	Server  fleet.ServerID
	Node    string
	Request string       // name of the CertificateSigningRequest
	For     string       // ForClient or ForServing
	OK      bool         // approved
	Cause   *fleet.Cause // why not: CodeCSRRefused; nil when OK
}

// What a certificate is for.
const (
	ForClient  = "client"
	ForServing = "serving"
)

// verdict is what is to be done about one request.
type verdict struct {
	act    act
	node   fleet.Assignment // whose; meaningful unless left alone
	use    string           // ForClient or ForServing
	reason string           // why it is denied, in words
}

type act int

const (
	leave act = iota // not ours to judge
	approve
	deny
)

// judge decides one pending request.
//
// Left alone is what concerns nobody of the plan: other signers, and nodes that
// a person adds with a token of his own. They stay pending, so that this person
// can approve them; Kubernetes forgets them after a day. All that names a
// planned node, or shows one of our tokens, is approved or denied.
func judge(p fleet.Plan, guest Guest, r *certificatesv1.CertificateSigningRequest) verdict {
	for _, condition := range r.Status.Conditions {
		switch condition.Type {
		case certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed:
			return verdict{}
		}
	}
	switch r.Spec.SignerName {
	case certificatesv1.KubeAPIServerClientKubeletSignerName:
		return judgeClient(p, guest, r)
	case certificatesv1.KubeletServingSignerName:
		return judgeServing(p, r)
	}
	return verdict{}
}

// judgeClient decides about a kubelet's certificate as a client: its first, by
// token, or a renewal by itself.
func judgeClient(p fleet.Plan, guest Guest, r *certificatesv1.CertificateSigningRequest) verdict {
	v := verdict{use: ForClient}
	ask, err := parseRequest(r.Spec.Request)
	id, byToken := strings.CutPrefix(r.Spec.Username, tokenUserPrefix)
	self, byNode := strings.CutPrefix(r.Spec.Username, nodeUserPrefix)
	known := false
	switch {
	case byToken:
		v.node, known = guest(id)
		known = known && v.node.Node != nil
		if known && !slices.Contains(r.Spec.Groups, tokenBaseGroup) {
			return v.deny("%s is not of the group %s", r.Spec.Username, tokenBaseGroup)
		}
	case byNode:
		v.node, known = nodeOf(p, self)
		if known && !slices.Contains(r.Spec.Groups, nodesGroup) {
			return v.deny("%s is not of the group %s", r.Spec.Username, nodesGroup)
		}
	}
	if !known {
		// Not one of ours asks. It matters only when it asks for the name of one.
		if err != nil {
			return verdict{}
		}
		wanted, ok := nodeOf(p, strings.ToLower(strings.TrimPrefix(ask.Subject.CommonName, nodeUserPrefix)))
		if !ok {
			return verdict{}
		}
		v.node = wanted
		return v.deny("%s, who has not the token of this node, asks for its certificate", r.Spec.Username)
	}
	if err != nil {
		return v.deny("%v", err)
	}
	if text := judgeSubject(ask, v.node); text != "" {
		return v.deny("%s", text)
	}
	if n := len(ask.DNSNames) + len(ask.IPAddresses); n > 0 {
		return v.deny("a client's certificate has no alternative names, this one asks for %s", sans(ask))
	}
	if !usages(r.Spec.Usages, certificatesv1.UsageClientAuth) {
		return v.deny("usages %v are not those of a client", r.Spec.Usages)
	}
	v.act = approve
	return v
}

// judgeServing decides about the certificate with which a kubelet answers.
func judgeServing(p fleet.Plan, r *certificatesv1.CertificateSigningRequest) verdict {
	v := verdict{use: ForServing}
	ask, err := parseRequest(r.Spec.Request)
	self, byNode := strings.CutPrefix(r.Spec.Username, nodeUserPrefix)
	known := false
	if byNode {
		v.node, known = nodeOf(p, self)
	}
	if !known {
		if err != nil {
			return verdict{}
		}
		wanted, ok := nodeOf(p, strings.ToLower(strings.TrimPrefix(ask.Subject.CommonName, nodeUserPrefix)))
		if !ok {
			return verdict{}
		}
		v.node = wanted
		return v.deny("%s asks for the serving certificate of another node", r.Spec.Username)
	}
	if !slices.Contains(r.Spec.Groups, nodesGroup) {
		return v.deny("%s is not of the group %s", r.Spec.Username, nodesGroup)
	}
	if err != nil {
		return v.deny("%v", err)
	}
	if text := judgeSubject(ask, v.node); text != "" {
		return v.deny("%s", text)
	}
	if len(ask.DNSNames)+len(ask.IPAddresses) == 0 {
		return v.deny("a serving certificate needs the node's name or address, this one asks for none")
	}
	planned := plannedAddress(v.node)
	for _, name := range ask.DNSNames {
		if name != v.node.Node.Name {
			return v.deny("it asks for the name %q, the planned one is %q", clip(name), v.node.Node.Name)
		}
	}
	for _, ip := range ask.IPAddresses {
		got, ok := netip.AddrFromSlice(ip)
		if !ok || !planned.IsValid() || got.Unmap() != planned {
			return v.deny("it asks for the address %v, the planned one is %v", ip, planned)
		}
	}
	if !usages(r.Spec.Usages, certificatesv1.UsageServerAuth) {
		return v.deny("usages %v are not those of a server", r.Spec.Usages)
	}
	v.act = approve
	return v
}

func (v verdict) deny(format string, args ...any) verdict {
	v.act, v.reason = deny, words(fmt.Sprintf(format, args...))
	return v
}

// judgeSubject says what is wrong with the subject; "" when nothing is.
func judgeSubject(ask *x509.CertificateRequest, a fleet.Assignment) string {
	s, name := ask.Subject, nodeUserPrefix+a.Node.Name
	switch {
	case s.CommonName != name:
		return fmt.Sprintf("it asks for the name %q, the planned one is %q", clip(s.CommonName), name)
	case len(s.Organization) != 1 || s.Organization[0] != nodesGroup:
		return fmt.Sprintf("it asks for the groups %s, a node has only %q", clip(fmt.Sprintf("%q", s.Organization)), nodesGroup)
	case len(s.Names) != 2: // the common name and one organization
		return fmt.Sprintf("its subject has %d parts, want a name and a group", len(s.Names))
	}
	return ""
}

// usages tells whether they are exactly those that the kubelet's signers take:
// digital signature and auth, with key encipherment for RSA keys or without.
func usages(have []certificatesv1.KeyUsage, auth certificatesv1.KeyUsage) bool {
	have = slices.Clone(have)
	slices.Sort(have)
	want := []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, auth}
	slices.Sort(want)
	if slices.Equal(have, want) {
		return true
	}
	want = append(want, certificatesv1.UsageKeyEncipherment)
	slices.Sort(want)
	return slices.Equal(have, want)
}

// nodeOf finds a planned node by its exact name.
func nodeOf(p fleet.Plan, name string) (fleet.Assignment, bool) {
	for _, a := range p.Assignments {
		if isNode(a) && a.Node.Name == name {
			return a, true
		}
	}
	return fleet.Assignment{}, false
}

func isNode(a fleet.Assignment) bool { return a.Node != nil && a.Role != fleet.Excluded }

// plannedAddress is the zero value when the plan has none.
func plannedAddress(a fleet.Assignment) netip.Addr {
	if p, err := netip.ParsePrefix(a.Network.Address); err == nil {
		return p.Addr().Unmap()
	}
	ip, _ := netip.ParseAddr(a.Network.Address)
	return ip.Unmap()
}

// subjectAltName is id-ce-subjectAltName, RFC 5280 section 4.2.1.6.
var subjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// parseRequest reads a PKCS #10 request and refuses what a kubelet's never has:
// more than one PEM block, extensions other than alternative names,
// alternative names that are no DNS name or IP address, weak keys.
func parseRequest(b []byte) (*x509.CertificateRequest, error) {
	if len(b) > maxRequest {
		return nil, fmt.Errorf("the request has %d bytes, more than %d", len(b), maxRequest)
	}
	block, rest := pem.Decode(b)
	if block == nil || block.Type != "CERTIFICATE REQUEST" || strings.TrimSpace(string(rest)) != "" {
		return nil, errors.New("the request is not one PEM block CERTIFICATE REQUEST")
	}
	ask, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the request cannot be read: %w", err)
	}
	if err := ask.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the request is not signed with its key: %w", err)
	}
	if key, ok := ask.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < minRSA {
		return nil, fmt.Errorf("its RSA key has %d bits, fewer than %d", key.N.BitLen(), minRSA)
	}
	named := false
	for _, e := range ask.Extensions {
		if !e.Id.Equal(subjectAltName) || named {
			return nil, fmt.Errorf("it asks for the extension %v", e.Id)
		}
		named = true
		if err := onlyNamesAndAddresses(e.Value); err != nil {
			return nil, err
		}
	}
	return ask, nil
}

// onlyNamesAndAddresses looks at the raw alternative names, because the parser
// passes silently over kinds that it does not know.
func onlyNamesAndAddresses(der []byte) error {
	var names []asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &names); err != nil || len(rest) > 0 {
		return errors.New("its alternative names cannot be read")
	}
	for _, n := range names {
		if n.Class != asn1.ClassContextSpecific || n.Tag != 2 && n.Tag != 7 { // dNSName, iPAddress
			return fmt.Errorf("it asks for an alternative name of kind %d, neither name nor address", n.Tag)
		}
	}
	return nil
}

func sans(ask *x509.CertificateRequest) string {
	return clip(fmt.Sprintf("%q %v", ask.DNSNames, ask.IPAddresses))
}

// clip shortens one value of a reason.
func clip(s string) string {
	if len(s) > 100 {
		s = s[:100] + "…"
	}
	return words(s)
}

// settle carries a verdict out. (nil, nil): left alone, or somebody else was faster.
func (c *Cluster) settle(ctx context.Context, r *certificatesv1.CertificateSigningRequest, v verdict) (*Admission, error) {
	if v.act == leave {
		return nil, nil
	}
	condition := certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue,
		Reason: "MetalriseApproved", Message: "name, address and bearer are those of the plan", LastUpdateTime: metav1.NewTime(time.Now()),
	}
	out := &Admission{Server: v.node.Server, Node: v.node.Node.Name, Request: r.Name, For: v.use, OK: v.act == approve}
	if v.act == deny {
		condition.Type, condition.Reason, condition.Message = certificatesv1.CertificateDenied, "MetalriseDenied", v.reason
		out.Cause = fleet.CauseOf(fleet.NewFault(fleet.CodeCSRRefused, fleet.Conflict, errors.New(v.reason),
			"the request %s for a %s certificate of node %s was denied", r.Name, v.use, v.node.Node.Name))
	}
	judged := r.DeepCopy() // with its resource version: what was judged is what is approved
	judged.TypeMeta = metav1.TypeMeta{APIVersion: "certificates.k8s.io/v1", Kind: "CertificateSigningRequest"}
	judged.Status.Conditions = append(judged.Status.Conditions, condition)
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(judged)
	if err != nil {
		return nil, err
	}
	err = c.call(ctx, "judge request "+r.Name, func(ctx context.Context) error {
		_, err := c.dynamic.Resource(requestsResource).Update(ctx, &unstructured.Unstructured{Object: object}, metav1.UpdateOptions{}, "approval")
		return err
	})
	switch f := fleet.KindOf(err); {
	case err == nil:
		return out, nil
	case f == fleet.Conflict, isGone(err):
		return nil, nil // it changed; the watch brings what became of it
	}
	return nil, err
}

// ApprovePending judges every request that waits now, also renewals, and
// returns what it did. guest may be nil: the tokens in the cluster then tell
// whose they are.
func (c *Cluster) ApprovePending(ctx context.Context, guest Guest) ([]Admission, error) {
	guest, err := c.guests(ctx, guest)
	if err != nil {
		return nil, err
	}
	requests, err := list[certificatesv1.CertificateSigningRequest](ctx, c, requestsResource, "", metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var out []Admission
	for i := range requests {
		done, err := c.settle(ctx, &requests[i], judge(c.plan, guest, &requests[i]))
		if err != nil {
			return out, err
		}
		if done != nil {
			out = append(out, *done)
		}
	}
	return out, nil
}
