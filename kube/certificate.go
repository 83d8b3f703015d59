package kube

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"time"

	"sigs.k8s.io/yaml"

	"metalrise.dev/fleet"
)

const (
	// administratorName appears in the API's audit log.
	administratorName = "metalrise-administrator"
	// administratorGroup is bound to cluster-admin by `kubeadm init`. The other
	// choice, system:masters, is above all authorization: nobody could take its
	// rights away from a certificate that was lost. The cost: before kubeadm has
	// made the binding, the API answers 403.
	administratorGroup = "kubeadm:cluster-admins"
	// maxKubeconfig bounds what KubeconfigCertificate reads, in bytes.
	maxKubeconfig = 64 << 10
)

// Certificates lists the authorities with the time they are valid.
func (a *Authority) Certificates() []fleet.Certificate {
	return []fleet.Certificate{
		describe("cluster authority", a.cluster.cert),
		describe("front proxy authority", a.frontProxy.cert),
		describe("etcd authority", a.etcd.cert),
	}
}

func describe(name string, c *x509.Certificate) fleet.Certificate {
	return fleet.Certificate{Name: name, Subject: c.Subject.String(), From: c.NotBefore, Until: c.NotAfter}
}

// The parts of a kubeconfig file (client-go's api/v1) that are written here.
type kubeconfig struct {
	APIVersion     string         `json:"apiVersion"`
	Kind           string         `json:"kind"`
	Clusters       []namedCluster `json:"clusters"`
	Users          []namedUser    `json:"users"`
	Contexts       []namedContext `json:"contexts"`
	CurrentContext string         `json:"current-context"`
}

type namedCluster struct {
	Name    string `json:"name"`
	Cluster struct {
		Server string `json:"server"`
		CA     string `json:"certificate-authority-data"`
	} `json:"cluster"`
}

type namedUser struct {
	Name string `json:"name"`
	User struct {
		Certificate string `json:"client-certificate-data"`
		Key         string `json:"client-key-data"`
	} `json:"user"`
}

type namedContext struct {
	Name    string `json:"name"`
	Context struct {
		Cluster string `json:"cluster"`
		User    string `json:"user"`
	} `json:"context"`
}

// Kubeconfig makes a kubeconfig with a new administrator's certificate that is
// valid from a day before now until valid after it. The certificate has full
// rights as soon as `kubeadm init` has bound its group. It is a secret.
func (a *Authority) Kubeconfig(now time.Time, rnd io.Reader, e fleet.APIEndpoint, cluster string, valid time.Duration) ([]byte, error) {
	if valid <= 0 || now.Add(valid).After(a.cluster.cert.NotAfter) {
		return nil, fmt.Errorf("make the kubeconfig of %s: valid for %s is not within the authority's time, which ends %s",
			cluster, valid, a.cluster.cert.NotAfter.Format(time.RFC3339))
	}
	key, err := newKey(rnd)
	if err != nil {
		return nil, fmt.Errorf("make the administrator's key of %s: %w", cluster, err)
	}
	serial, err := newSerial(rnd)
	if err != nil {
		return nil, fmt.Errorf("make the administrator's certificate of %s: %w", cluster, err)
	}
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: administratorName, Organization: []string{administratorGroup}},
		NotBefore:    later(now.Add(-backdate), a.cluster.cert.NotBefore).UTC(), NotAfter: now.Add(valid).UTC(),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	cert, err := sign(t, key, a.cluster.cert, a.cluster.key)
	if err != nil {
		return nil, fmt.Errorf("sign the administrator's certificate of %s: %w", cluster, err)
	}
	secret, err := keyPEM(key)
	if err != nil {
		return nil, err
	}
	name := administratorName + "@" + cluster
	c := kubeconfig{APIVersion: "v1", Kind: "Config", CurrentContext: name,
		Clusters: make([]namedCluster, 1), Users: make([]namedUser, 1), Contexts: make([]namedContext, 1)}
	c.Clusters[0].Name = cluster
	c.Clusters[0].Cluster.Server = "https://" + hostPort(e)
	c.Clusters[0].Cluster.CA = base64.StdEncoding.EncodeToString(certPEM(a.cluster.cert))
	c.Users[0].Name = name
	c.Users[0].User.Certificate = base64.StdEncoding.EncodeToString(certPEM(cert))
	c.Users[0].User.Key = base64.StdEncoding.EncodeToString(secret)
	c.Contexts[0].Name = name
	c.Contexts[0].Context.Cluster, c.Contexts[0].Context.User = cluster, name
	return yaml.Marshal(c)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// KubeconfigCertificate tells the client certificate of a kubeconfig that
// Kubeconfig made. Errors never hold any of its bytes.
func KubeconfigCertificate(data []byte) (fleet.Certificate, error) {
	if len(data) > maxKubeconfig {
		return fleet.Certificate{}, fmt.Errorf("read the kubeconfig: %d bytes, at most %d are possible", len(data), maxKubeconfig)
	}
	var c kubeconfig
	if yaml.Unmarshal(data, &c) != nil || len(c.Users) != 1 {
		return fleet.Certificate{}, errors.New("read the kubeconfig: it is none with one user")
	}
	raw, err := base64.StdEncoding.DecodeString(c.Users[0].User.Certificate)
	if err != nil {
		return fleet.Certificate{}, errors.New("read the kubeconfig: its certificate is not base64")
	}
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != pemCert {
		return fleet.Certificate{}, errors.New("read the kubeconfig: its certificate is not PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fleet.Certificate{}, errors.New("read the kubeconfig: its certificate cannot be read")
	}
	return describe("administrator", cert), nil
}
