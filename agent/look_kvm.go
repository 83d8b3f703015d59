package agent

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"metalrise.dev/fleet"
)

// Requests of the kernel's KVM API (Documentation/virt/kvm/api.rst, sections 4.1 and 4.2).
const (
	kvmGetAPIVersion = 0xAE00
	kvmCreateVM      = 0xAE01
	kvmAPI           = 12
)

// lookKVM tells which modules the kernel has, loaded or built in, and whether a
// virtual machine can be made.
func (m *Machine) lookKVM() fleet.KVM {
	k := fleet.KVM{Modules: []string{}}
	for _, name := range []string{"kvm", "kvm_intel", "kvm_amd", "vhost_net", "tun"} {
		if m.exists("sys/module/" + name) {
			k.Modules = append(k.Modules, name)
		}
	}
	path := m.path("dev/kvm")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		k.Why = "open /dev/kvm: " + cause(err)
		return k
	}
	defer func() { _ = f.Close() }()
	k.Device = true
	if err := tryKVM(int(f.Fd())); err != nil {
		k.Why = err.Error()
		return k
	}
	k.Usable = true
	return k
}

func tryKVM(fd int) error {
	version, err := unix.IoctlRetInt(fd, kvmGetAPIVersion)
	if err != nil {
		return fmt.Errorf("ask /dev/kvm for its version: %w", err)
	}
	if version != kvmAPI {
		return fmt.Errorf("/dev/kvm speaks version %d, want %d", version, kvmAPI)
	}
	vm, err := unix.IoctlRetInt(fd, kvmCreateVM)
	if err != nil {
		return fmt.Errorf("create a virtual machine: %w", err)
	}
	return unix.Close(vm)
}

// cause is the system's word for an error, without the path.
func cause(err error) string {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}
