package kube

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"metalrise.dev/fleet"
)

// What a bootstrap token is made of (Kubernetes documentation, "Authenticating
// with Bootstrap Tokens").
const (
	tokenSecretPrefix = "bootstrap-token-"
	tokenSecretType   = "bootstrap.kubernetes.io/token"
	tokenUserPrefix   = "system:bootstrap:" // + id is the name of who shows it
	tokenGroup        = "system:bootstrappers:kubeadm:default-node-token"
	tokenBaseGroup    = "system:bootstrappers"
)

// Annotations of a token's Secret say whose it is.
const (
	serverAnnotation = "metalrise.dev/server"
	nodeAnnotation   = "metalrise.dev/node"
)

var tokenForm = regexp.MustCompile(`^([a-z0-9]{6})\.([a-z0-9]{16})$`)

var tokenIDForm = regexp.MustCompile(`^[a-z0-9]{6}$`)

// Invite lets the bearer of a token ("id.secret", 6 and 16 characters of a-z
// and 0-9) join as the node of one server, and nothing else, until the given
// time. Another token of the same id is replaced.
func (c *Cluster) Invite(ctx context.Context, a fleet.Assignment, token string, until time.Time) error {
	parts := tokenForm.FindStringSubmatch(token)
	if parts == nil {
		return fleet.NewFault(fleet.CodeAPIRefused, fleet.Invalid, nil, "invite %s: the token has not the form id.secret", a.Server) // its text is not shown
	}
	if a.Node == nil {
		return fleet.NewFault(fleet.CodeAPIRefused, fleet.Invalid, nil, "invite %s: it is no node of a cluster", a.Server)
	}
	secret := &corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{
			Name: tokenSecretPrefix + parts[1], Namespace: metav1.NamespaceSystem,
			Labels:      map[string]string{OwnerLabel: Manager},
			Annotations: map[string]string{serverAnnotation: string(a.Server), nodeAnnotation: a.Node.Name},
		},
		Type: tokenSecretType,
		Data: map[string][]byte{
			"token-id": []byte(parts[1]), "token-secret": []byte(parts[2]),
			"expiration":              []byte(until.UTC().Format(time.RFC3339)),
			"usage-bootstrap-signing": []byte("true"), "usage-bootstrap-authentication": []byte("true"),
			"auth-extra-groups": []byte(tokenGroup),
			"description":       fmt.Appendf(nil, "metalrise: for node %s on server %s alone", a.Node.Name, a.Server),
		},
	}
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(secret)
	if err != nil {
		return err
	}
	err = c.call(ctx, "invite node "+a.Node.Name, func(ctx context.Context) error {
		to := c.dynamic.Resource(secretsResource).Namespace(metav1.NamespaceSystem)
		_, err := to.Create(ctx, &unstructured.Unstructured{Object: object}, metav1.CreateOptions{FieldManager: Manager})
		if apierrors.IsAlreadyExists(err) {
			// Without a resource version: whatever is there is replaced as a whole.
			_, err = to.Update(ctx, &unstructured.Unstructured{Object: object}, metav1.UpdateOptions{FieldManager: Manager})
		}
		return err
	})
	if err != nil {
		return err
	}
	// A kubelet that kept its key asks under the same name again, and would find
	// the refusal of the time before.
	return c.forget(ctx, func(r *certificatesv1.CertificateSigningRequest) bool {
		return r.Spec.Username == tokenUserPrefix+parts[1] && len(r.Status.Certificate) == 0
	})
}

// forget deletes the certificate requests that match.
func (c *Cluster) forget(ctx context.Context, match func(*certificatesv1.CertificateSigningRequest) bool) error {
	requests, err := list[certificatesv1.CertificateSigningRequest](ctx, c, requestsResource, "", metav1.ListOptions{})
	if err != nil {
		return err
	}
	for i := range requests {
		if !match(&requests[i]) {
			continue
		}
		if err := c.remove(ctx, requestsResource, "", requests[i].Name); err != nil {
			return err
		}
	}
	return nil
}

// Revoke makes a token worthless, named by itself or by its id. One that is
// gone is fine.
func (c *Cluster) Revoke(ctx context.Context, token string) error {
	id, _, _ := strings.Cut(token, ".")
	if !tokenIDForm.MatchString(id) {
		return fleet.NewFault(fleet.CodeAPIRefused, fleet.Invalid, nil, "revoke a token: its id has not 6 characters of a-z and 0-9")
	}
	return c.remove(ctx, secretsResource, metav1.NamespaceSystem, tokenSecretPrefix+id)
}

// tokens lists every bootstrap token of the cluster.
func (c *Cluster) tokens(ctx context.Context) ([]corev1.Secret, error) {
	return list[corev1.Secret](ctx, c, secretsResource, metav1.NamespaceSystem, metav1.ListOptions{FieldSelector: "type=" + tokenSecretType})
}

// Guest tells whose token an id is.
type Guest func(tokenID string) (fleet.Assignment, bool)

// guests knows whose tokens there are: by the caller's word, and for those that
// he does not know (he may just have started) by the annotations that Invite
// wrote. A wrong refusal would cost a kubelet an hour.
func (c *Cluster) guests(ctx context.Context, told Guest) (Guest, error) {
	tokens, err := c.tokens(ctx)
	if err != nil {
		return nil, err
	}
	known := map[string]fleet.Assignment{}
	for _, t := range tokens {
		a, ok := c.plan.Assignment(fleet.ServerID(t.Annotations[serverAnnotation]))
		if ok && t.Labels[OwnerLabel] == Manager && a.Node != nil && a.Node.Name == t.Annotations[nodeAnnotation] {
			known[string(t.Data["token-id"])] = a
		}
	}
	return func(id string) (fleet.Assignment, bool) {
		if told != nil {
			if a, ok := told(id); ok {
				return a, true
			}
		}
		a, ok := known[id]
		return a, ok
	}, nil
}
