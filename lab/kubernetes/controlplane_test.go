package kubernetes

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A node's first steps work: a bootstrap token authenticates, and what a node
// asks for with it is signed once approved.
func TestControlPlane(t *testing.T) {
	software := os.Getenv("METALRISE_HYPER") // a folder with the program, while there is no payload
	if software == "" {
		software = payload(t)
	}
	begin := time.Now()
	c, err := StartControlPlane(t.Context(), software, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	t.Logf("serves after %.1f s at %s", time.Since(begin).Seconds(), c.URL)
	kubectl := kubectl(t, software, c.Kubeconfig)
	if got := kubectl("", "get", "--raw", "/version"); !strings.Contains(got, Version) {
		t.Errorf("version: %s", got)
	}
	kubectl(`apiVersion: v1
kind: Secret
metadata: {name: bootstrap-token-abcdef, namespace: kube-system}
type: bootstrap.kubernetes.io/token
stringData: {token-id: abcdef, token-secret: 0123456789abcdef, usage-bootstrap-authentication: "true", usage-bootstrap-signing: "true"}
`, "apply", "-f", "-")
	if got := kubectl("", "auth", "whoami", "--token=abcdef.0123456789abcdef", "--kubeconfig=/dev/null", "--server="+c.URL,
		"--insecure-skip-tls-verify", "-o", "jsonpath={.status.userInfo.username}"); got != "system:bootstrap:abcdef" {
		t.Errorf("the token is %q", got)
	}
	c.Stop()
	c.Stop()
}

// kubectl returns a way to run the payload's own client.
func kubectl(t *testing.T, software string, config []byte) func(stdin string, args ...string) string {
	t.Helper()
	hyper, err := findHyper(software)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, config, 0o600); err != nil {
		t.Fatal(err)
	}
	return func(stdin string, args ...string) string {
		t.Helper()
		cmd := &exec.Cmd{Path: hyper, Args: append([]string{"kubectl"}, args...), Stdin: strings.NewReader(stdin),
			Env: []string{"KUBECONFIG=" + path, "HOME=" + t.TempDir()}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("kubectl %s: %v: %s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
}
