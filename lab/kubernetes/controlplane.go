package kubernetes

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"metalrise.dev/fleet"
)

// ControlPlane is a Kubernetes API without nodes, on this computer's loopback
// interface: the real etcd, API server and controller manager, for tests of
// what talks to the API.
//
// Bootstrap tokens authenticate and are cleaned up, the cluster-info config map
// is signed, and certificate requests are signed once approved (and approved by
// the controller where the RBAC rules say so). There is no scheduler, no
// kubelet and no service network; admission webhooks inside of the cluster are
// out of reach.
type ControlPlane struct {
	URL        string // https://127.0.0.1:PORT
	Kubeconfig []byte // of a member of system:masters
	CA         []byte // PEM; signed the server's certificate, signs certificate requests

	dir       string
	processes []*process
}

// StartControlPlane starts a control plane and returns when it serves, its
// controllers included: 5 to 20 seconds. software is a payload's folder, or a
// folder that holds the program hyper; workDir keeps data and logs and must be
// the control plane's own. Everything ends with Stop, with ctx, and with this
// process.
func StartControlPlane(ctx context.Context, software, workDir string) (*ControlPlane, error) {
	hyper, err := findHyper(software)
	if err != nil {
		return nil, fmt.Errorf("start control plane: %w", err)
	}
	dir, err := filepath.Abs(workDir)
	if err != nil {
		return nil, fmt.Errorf("start control plane: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("start control plane: %w", err)
	}
	c := &ControlPlane{dir: dir}
	if err := c.start(ctx, hyper); err != nil {
		c.Stop()
		return nil, fmt.Errorf("start control plane: %w", err)
	}
	context.AfterFunc(ctx, c.Stop)
	return c, nil
}

// findHyper returns the path of the multi-call program.
func findHyper(software string) (string, error) {
	dir, err := filepath.Abs(software)
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(filepath.Join(dir, payloadFile))
	if errors.Is(err, fs.ErrNotExist) {
		path := filepath.Join(dir, hyperName)
		_, err := os.Stat(path)
		return path, err
	}
	if err != nil {
		return "", err
	}
	var p fleet.Payload
	if err := json.Unmarshal(text, &p); err != nil {
		return "", fmt.Errorf("%s: %w", payloadFile, err)
	}
	i := slices.IndexFunc(p.Files, func(f fleet.PayloadFile) bool { return f.Name == hyperName })
	if i < 0 {
		return "", fmt.Errorf("%s in %s lists no file %q", payloadFile, dir, hyperName)
	}
	return filepath.Join(dir, fleet.Blob(p.Files[i].Digest)), nil
}

// Stop kills the control plane and waits for its end. Data and logs stay. It is
// safe to call more than once.
func (c *ControlPlane) Stop() {
	for _, p := range slices.Backward(c.processes) {
		p.kill()
	}
}

// LogFile returns the path of a program's output: "etcd", "kube-apiserver" or
// "kube-controller-manager".
func (c *ControlPlane) LogFile(program string) string { return filepath.Join(c.dir, program+".log") }

func (c *ControlPlane) start(ctx context.Context, hyper string) error {
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	api := net.JoinHostPort(loopback, ports[2])
	c.URL = "https://" + api
	client, err := c.credentials()
	if err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	data, peers := "http://"+net.JoinHostPort(loopback, ports[0]), "http://"+net.JoinHostPort(loopback, ports[1])
	run := func(name string, args ...string) error {
		p, err := startProcess(hyper, c.dir, name, args...)
		if err == nil {
			c.processes = append(c.processes, p)
		}
		return err
	}
	if err := run("etcd", "--data-dir="+c.at("etcd"), "--listen-client-urls="+data, "--advertise-client-urls="+data,
		"--listen-peer-urls="+peers, "--initial-advertise-peer-urls="+peers, "--initial-cluster=default="+peers,
		"--unsafe-no-fsync"); err != nil {
		return err
	}
	if err := run("kube-apiserver", "--etcd-servers="+data, "--bind-address="+loopback, "--secure-port="+ports[2],
		"--advertise-address="+loopback, "--endpoint-reconciler-type=none",
		"--tls-cert-file="+c.at("server.crt"), "--tls-private-key-file="+c.at("server.key"), "--client-ca-file="+c.at("ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+c.at("tokens.pub"),
		"--service-account-signing-key-file="+c.at("tokens.key"), "--service-cluster-ip-range=10.96.0.0/16",
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--enable-bootstrap-token-auth=true", "--allow-privileged=true"); err != nil {
		return err
	}
	if err := c.wait(ctx, client, "/readyz"); err != nil {
		return err
	}
	if err := run("kube-controller-manager", "--kubeconfig="+c.at("kubeconfig"), "--leader-elect=false", "--secure-port=0",
		"--service-account-private-key-file="+c.at("tokens.key"), "--root-ca-file="+c.at("ca.crt"), "--use-service-account-credentials=true",
		"--cluster-signing-cert-file="+c.at("ca.crt"), "--cluster-signing-key-file="+c.at("ca.key"),
		"--controllers=*,bootstrapsigner,tokencleaner", "--allocate-node-cidrs=true", "--cluster-cidr=10.244.0.0/16",
		"--service-cluster-ip-range=10.96.0.0/16"); err != nil {
		return err
	}
	// The first thing its controllers visibly do.
	return c.wait(ctx, client, "/api/v1/namespaces/default/serviceaccounts/default")
}

const loopback = "127.0.0.1"

func (c *ControlPlane) at(name string) string { return filepath.Join(c.dir, name) }

// credentials makes every key there is and returns a client of an administrator.
func (c *ControlPlane) credentials() (*http.Client, error) {
	ca, err := newAuthority("kubernetes")
	if err != nil {
		return nil, err
	}
	server, err := ca.issue(template("kube-apiserver"), x509.ExtKeyUsageServerAuth, net.ParseIP(loopback))
	if err != nil {
		return nil, err
	}
	admin, err := ca.issue(template("admin", "system:masters"), x509.ExtKeyUsageClientAuth)
	if err != nil {
		return nil, err
	}
	caKey, err := keyBlock(ca.key)
	if err != nil {
		return nil, err
	}
	private, public, err := newTokenKey()
	if err != nil {
		return nil, err
	}
	c.CA, c.Kubeconfig = ca.pem, kubeconfig(c.URL, ca.pem, admin)
	err = writeAll(map[string][]byte{
		c.at("ca.crt"): ca.pem, c.at("ca.key"): caKey, c.at("server.crt"): server.cert, c.at("server.key"): server.key,
		c.at("tokens.key"): private, c.at("tokens.pub"): public, c.at("kubeconfig"): c.Kubeconfig,
	})
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(admin.cert, admin.key)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}}, DisableKeepAlives: true}
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}, nil
}

// wait asks until the API answers path with 200, a program ends, or ctx does.
func (c *ControlPlane) wait(ctx context.Context, client *http.Client, path string) error {
	last := errors.New("no answer yet")
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL+path, nil)
		if err != nil {
			return err
		}
		answer, err := client.Do(request)
		if err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(answer.Status)
		}
		if ctx.Err() == nil {
			last = err
		}
		for _, p := range c.processes {
			if err := p.ended(); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w; last: %w", path, ctx.Err(), last)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// freePorts returns ports of the loopback interface that nothing listens on.
// Someone else may take one before it is used; then a program ends and says so.
func freePorts(n int) ([]string, error) {
	var ports []string
	for range n {
		l, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports = append(ports, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
	return ports, nil
}

func kubeconfig(url string, ca []byte, user pair) []byte {
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
- name: lab
  cluster: {server: %q, certificate-authority-data: %s}
users:
- name: admin
  user: {client-certificate-data: %s, client-key-data: %s}
contexts:
- name: lab
  context: {cluster: lab, user: admin}
current-context: lab
`, url, b64(ca), b64(user.cert), b64(user.key))
}
