package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"metalrise.dev/fleet"
	vmguest "metalrise.dev/guest"
)

// firstVMName is what the page's first VM is called.
const firstVMName = "first-vm"

// firstVM is what a person pastes into a shell to get a VM and to hear it speak. Where the software
// has the proofs' guest it is that one, so that nothing is fetched from
// elsewhere; else a small public system.
func firstVM(p fleet.StackPlan, kubeconfig, kubectl string) string {
	if !slices.ContainsFunc(p.Components, func(c fleet.ComponentPlan) bool { return c.Name == fleet.ComponentKubeVirt }) {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "export KUBECONFIG=%s\n%s apply -f - <<'EOF'\n%sEOF\n", shellQuote(kubeconfig), shellQuote(kubectl), firstVMManifest(p))
	// Ready says only that QEMU runs. The guest's own words come seconds later, and
	// they are what a person wants to see.
	fmt.Fprintf(&b, "%[1]s wait --for=condition=Ready vm/%[2]s --timeout=5m\n"+
		"for i in $(seq 60); do %[1]s logs -l vm.kubevirt.io/name=%[2]s -c guest-console-log --tail=5 | grep . && break; sleep 2; done\n", shellQuote(kubectl), firstVMName)
	return b.String()
}

// firstVMRemoved is the command that takes it away again.
func firstVMRemoved(kubectl string) string {
	return shellQuote(kubectl) + " delete vm " + firstVMName
}

// firstVMManifest is the VirtualMachine, as YAML.
func firstVMManifest(p fleet.StackPlan) string {
	var b strings.Builder
	line := func(indent int, format string, args ...any) {
		fmt.Fprintf(&b, "%s%s\n", strings.Repeat("  ", indent), fmt.Sprintf(format, args...))
	}
	line(0, "apiVersion: kubevirt.io/v1")
	line(0, "kind: VirtualMachine")
	line(0, "metadata: {name: %s, namespace: default}", firstVMName)
	line(0, "spec:")
	line(1, "runStrategy: Always")
	sized := slices.ContainsFunc(p.Components, func(c fleet.ComponentPlan) bool { return c.Name == fleet.ComponentInstanceTypes })
	if sized {
		line(1, "instancetype: {kind: VirtualMachineClusterInstancetype, name: u1.nano}")
		line(1, "preference: {kind: VirtualMachineClusterPreference, name: linux}")
	}
	line(1, "template:")
	line(2, "spec:")
	line(3, "terminationGracePeriodSeconds: 0")
	line(3, "domain:")
	if !sized {
		line(4, "cpu: {cores: 1}")
		line(4, "memory: {guest: 512Mi}")
	}
	line(4, "devices:")
	line(5, "logSerialConsole: true")
	line(5, "interfaces: [{name: default, masquerade: {}}]")
	if p.Guest != "" {
		line(4, "firmware:")
		line(5, "kernelBoot:")
		line(6, "container: {image: %q, kernelPath: /boot/vmlinuz, initrdPath: /boot/initrd, imagePullPolicy: IfNotPresent}", p.Guest)
		line(6, "kernelArgs: %q", "console=ttyS0 quiet panic=-1 "+vmguest.Orders{Nonce: "first", Beat: 5 * time.Second}.Args())
	} else {
		line(5, "disks: [{name: system, disk: {bus: virtio}}]")
	}
	line(3, "networks: [{name: default, pod: {}}]")
	if p.Guest == "" { // fetched from the public registry: the software has no guest
		line(3, "volumes: [{name: system, containerDisk: {image: quay.io/containerdisks/fedora:latest}}]")
	}
	return b.String()
}

// shellQuote makes one word of a path.
func shellQuote(s string) string {
	if s != "" && strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+=:@", r))
	}) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// linkTo makes a symbolic link, in place of one that leads elsewhere.
func linkTo(target, link string) error {
	target, err := filepath.Abs(target)
	if err != nil {
		return err
	}
	if now, err := os.Readlink(link); err == nil && now == target {
		return nil
	}
	fresh := link + ".new"
	if err := os.MkdirAll(filepath.Dir(link), 0o700); err != nil {
		return err
	}
	_ = os.Remove(fresh) // of a process that was killed
	if err := os.Symlink(target, fresh); err != nil {
		return err
	}
	return os.Rename(fresh, link)
}
