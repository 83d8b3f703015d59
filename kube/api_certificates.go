package kube

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"metalrise.dev/fleet"
)

const (
	apiPort       = "6443"
	kubeletPort   = "10250"
	greetTimeout  = 5 * time.Second
	maxGreetings  = 16
	membersWithin = 40 * time.Second
)

// Certificates lists the certificates with which we reach the cluster, and,
// by a greeting to every planned node, those with which its API servers and
// kubelets answer now. Where one does not answer, the others are returned and
// the errors joined.
func (c *Cluster) Certificates(ctx context.Context) ([]fleet.Certificate, error) {
	var out []fleet.Certificate
	for _, one := range []struct {
		name string
		pem  []byte
	}{{"cluster authority", c.login.ca}, {"administrator", c.login.cert}} {
		cert, err := parsePEM(one.pem)
		if err != nil {
			return nil, fmt.Errorf("read the certificate of the %s: %w", one.name, err)
		}
		out = append(out, certificateFact(one.name, cert))
	}
	type greeting struct{ name, address string }
	var all []greeting
	for _, a := range c.plan.Assignments {
		ip := plannedAddress(a)
		if !isNode(a) || !ip.IsValid() {
			continue
		}
		if isControl(a.Role) {
			all = append(all, greeting{"API server of " + a.Node.Name, net.JoinHostPort(ip.String(), apiPort)})
		}
		all = append(all, greeting{"kubelet of " + a.Node.Name, net.JoinHostPort(ip.String(), kubeletPort)})
	}
	found, troubles := make([]*x509.Certificate, len(all)), make([]error, len(all))
	var group errgroup.Group
	group.SetLimit(maxGreetings)
	for i, g := range all {
		group.Go(func() error {
			chain, err := greet(ctx, g.address)
			if err != nil {
				troubles[i] = fmt.Errorf("%s at %s: %w", g.name, g.address, err)
				return nil
			}
			found[i] = chain[0]
			return nil
		})
	}
	_ = group.Wait() // each keeps its own error
	for i, cert := range found {
		if cert != nil {
			out = append(out, certificateFact(all[i].name, cert))
		}
	}
	return out, errors.Join(troubles...)
}

func certificateFact(name string, cert *x509.Certificate) fleet.Certificate {
	return fleet.Certificate{Name: name, Subject: cert.Subject.String(), From: cert.NotBefore.UTC(), Until: cert.NotAfter.UTC()}
}

// greet reads the certificates that a server shows. Nothing is sent to it, so
// nothing is checked here.
func greet(ctx context.Context, address string) ([]*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	chain := conn.(*tls.Conn).ConnectionState().PeerCertificates
	if len(chain) == 0 {
		return nil, errors.New("it shows no certificate")
	}
	return chain, nil
}

// ofCluster tells whether a chain is of the cluster's authority, for serving at
// an address, now.
func (c *Cluster) ofCluster(chain []*x509.Certificate, address string, now time.Time) bool {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(c.login.ca) {
		return false
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: address, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return err == nil
}

// lookAround finds out what no watch tells: who is a member of etcd, and with
// which certificates kubelets answer. It asks again when something changed that
// may matter, and slowly otherwise.
func (w *following) lookAround(ctx context.Context) {
	for ctx.Err() == nil {
		s, complete := w.sight()
		if complete {
			members, err := w.askMembers(ctx, s)
			proven, unproven := w.greetKubelets(ctx, s)
			w.mu.Lock()
			w.members, w.noMembers, w.proven, w.unproven = members, err, proven, unproven
			w.mu.Unlock()
			w.changed.set()
		}
		pause(ctx, askSoon)
		select {
		case <-ctx.Done():
		case <-w.look:
		case <-time.After(askPace):
		}
	}
}

// askMembers keeps what was known while nobody can be asked, beside the reason:
// etcd does not lose members by itself.
func (w *following) askMembers(ctx context.Context, s *sight) (fleet.Maybe[[]Member], error) {
	w.mu.Lock()
	before := w.members
	w.mu.Unlock()
	if !slices.ContainsFunc(s.pods, isReadyEtcd) {
		return before, nil
	}
	ctx, cancel := context.WithTimeout(ctx, membersWithin)
	defer cancel()
	members, err := w.c.Members(ctx)
	if err != nil {
		return before, err
	}
	return fleet.Known(members), nil
}

// greetKubelets greets those of registered nodes that are not proven yet, and
// forgets nodes that are gone: another machine may come back under the name. A
// certificate that was just issued proves as much, and is remembered, because
// Kubernetes forgets the request after an hour.
func (w *following) greetKubelets(ctx context.Context, s *sight) (proven map[string]time.Time, unproven map[string]string) {
	proven, unproven = maps.Clone(s.proven), map[string]string{}
	maps.DeleteFunc(proven, func(name string, _ time.Time) bool { return s.nodes[name] == nil })
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(maxGreetings)
	for _, a := range w.c.plan.Assignments {
		ip := plannedAddress(a)
		if !isNode(a) || !ip.IsValid() || s.nodes[a.Node.Name] == nil {
			continue
		}
		if check := serving(a, s); check.OK {
			proven[a.Node.Name] = check.Since
			continue
		}
		group.Go(func() error {
			address := net.JoinHostPort(ip.String(), kubeletPort)
			chain, err := greet(ctx, address)
			now := time.Now()
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				unproven[a.Node.Name] = words(err.Error())
			case w.c.ofCluster(chain, ip.String(), now):
				proven[a.Node.Name] = chain[0].NotBefore.UTC()
			default:
				unproven[a.Node.Name] = words(address + " shows a certificate of " + chain[0].Issuer.String() + ", not of the cluster")
			}
			return nil
		})
	}
	_ = group.Wait() // one that does not answer is not proven, that is all
	return proven, unproven
}
