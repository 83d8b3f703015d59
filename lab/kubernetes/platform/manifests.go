package platform

import (
	"fmt"
	"path/filepath"
	"strings"

	"metalrise.dev/lab/recipe"
)

// operator is the manifest that upstream publishes with a release: namespace,
// CRD, rights and the operator's deployment. KubeVirt's own program makes it
// from what lies in its module, in two passes: the first puts files in, the
// second values.
func (b *builder) operator(kv built, work string) (string, error) {
	templator := kv.static("manifest-templator")
	first, err := b.Output(recipe.Command{Name: templator, Args: []string{"--process-files",
		"--generated-manifests-dir=" + kv.file("manifests/generated"), "--input-file=" + kv.file("manifests/release/kubevirt-operator.yaml.in")}})
	if err != nil {
		return "", fmt.Errorf("put KubeVirt's manifest together: %w", err)
	}
	template := filepath.Join(work, "operator.yaml.in")
	if err := write(template, first); err != nil {
		return "", err
	}
	text, err := b.Output(recipe.Command{Name: templator, Args: []string{"--process-vars", "--namespace=kubevirt", "--cdi-namespace=cdi",
		"--container-prefix=" + prefix, "--container-tag=" + Version, "--image-pull-policy=IfNotPresent", "--verbosity=2",
		"--kubevirt-logo-path=/dev/null", "--input-file=" + template}}) // the logo is for a catalogue of operators
	if err != nil {
		return "", fmt.Errorf("fill in KubeVirt's manifest: %w", err)
	}
	if want := reference("virt-operator"); !strings.Contains(text, want) {
		return "", fmt.Errorf("KubeVirt's manifest does not name the image %s", want)
	}
	return text, nil
}
