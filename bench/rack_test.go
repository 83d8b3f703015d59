package bench

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metalrise.dev/agent"
	"metalrise.dev/agent/agenttest"
	"metalrise.dev/fleet"
	"metalrise.dev/lab/machine"
	"metalrise.dev/lab/machine/fake"
	"metalrise.dev/lab/redfish"
)

const (
	rackPort     = 20443 // below the range that the kernel gives to clients
	rackUser     = "admin"
	rackPassword = "only-for-benchmarks"
)

// rack is a number of emulated servers.
type rack struct {
	servers []*server
	first   netip.Addr // address of the first BMC; the others count up
}

// server is an emulated BMC and the fake machine behind it.
type server struct {
	spec machine.Spec
	bmc  *redfish.BMC
	host *host

	fromMedia, fromDisk atomic.Int64 // boots
	arrived             atomic.Int64 // installed systems that were told that all is done
	mu                  sync.Mutex
	faults              []error
}

// newRack starts servers for a test and stops them after it.
func newRack(t testing.TB, n int) *rack {
	t.Helper()
	return newSlowRack(t, n, 0)
}

// newSlowRack has BMCs that take their time before each answer.
func newSlowRack(t testing.TB, n int, answer time.Duration) *rack {
	t.Helper()
	r, err := startRack(t.Context(), n, answer)
	t.Cleanup(r.close)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// startRack starts n servers that are off. Close it also after an error.
func startRack(ctx context.Context, n int, answer time.Duration) (*rack, error) {
	// A loopback network per process, so that two test runs do not meet.
	r := &rack{first: netip.AddrFrom4([4]byte{127, byte(64 + os.Getpid()%128), 0, 1})}
	cert, err := certificate()
	if err != nil {
		return r, err
	}
	addr := r.first
	for i := range n {
		s := &server{spec: spec(i)}
		s.host = newHost(s.spec)
		s.bmc, err = redfish.Start(ctx, redfish.Config{
			Listen: netip.AddrPortFrom(addr, rackPort).String(), Username: rackUser, Password: rackPassword,
			Spec: s.spec, Hardware: fake.New(s.spec, s.boot), Media: redfish.Lazy, Certificate: cert,
			Delays: redfish.Delays{Response: answer},
		})
		if err != nil {
			return r, err
		}
		r.servers = append(r.servers, s)
		addr = addr.Next()
	}
	return r, nil
}

// addresses is the rack as a site file names it.
func (r *rack) addresses() string {
	last := r.first
	for range len(r.servers) - 1 {
		last = last.Next()
	}
	return r.first.String() + "-" + last.String()
}

func (r *rack) close() {
	var wg sync.WaitGroup
	for _, s := range r.servers {
		wg.Go(func() { _ = s.bmc.Close() })
	}
	wg.Wait()
}

// certificate is one for all BMCs: making a thousand keys is not what is measured.
func certificate() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bmc"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

func spec(i int) machine.Spec {
	return machine.Spec{
		Name: fmt.Sprintf("n%d", i+1), UUID: fmt.Sprintf("8d5a4f0e-2c1b-4f6a-9e3d-%012x", i+1), Serial: fmt.Sprintf("BENCH%05d", i+1),
		Vendor: "Contoso", Model: "R1", Firmware: "uefi", CPUs: 16, MemoryMiB: 65536, Dir: "unused",
		Disks: []machine.Disk{
			{Name: "disk0", Serial: fmt.Sprintf("SSD%05d", i+1), WWN: fmt.Sprintf("5000c500%08x", 2*i), Model: "LABDISK", SizeBytes: 64 << 30},
			{Name: "disk1", Serial: fmt.Sprintf("HDD%05d", i+1), WWN: fmt.Sprintf("5000c500%08x", 2*i+1), Model: "LABDISK", SizeBytes: 4 << 40, Rotating: true},
		},
		NICs: []machine.NIC{{MAC: fmt.Sprintf("52:54:00:%02x:%02x:%02x", i>>16&0xff, i>>8&0xff, i&0xff), Bridge: "none"}},
	}
}

// boot is what runs when the BMC starts the machine.
func (s *server) boot(ctx context.Context, from machine.BootSource, console io.Writer) (machine.Stop, error) {
	s.host.Boot()
	var stop machine.Stop
	var err error
	switch from.Kind {
	case machine.FromMedia:
		s.fromMedia.Add(1)
		stop, err = s.live(ctx, from.ISO, console)
	case machine.FromDisk:
		stop, err = s.installed(ctx, console)
	default:
		err = fmt.Errorf("boot from %q: unknown", from.Kind)
	}
	if err == nil || ctx.Err() != nil {
		return stop, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, fmt.Errorf("%s from %s: %w", s.spec.Name, from.Kind, err))
	return stop, err
}

// live is the live system: config from the medium, agent program, agent.
func (s *server) live(ctx context.Context, address string, console io.Writer) (machine.Stop, error) {
	m, err := openMedium(ctx, address)
	if err != nil {
		return "", err
	}
	defer m.close()
	raw, err := m.config()
	if err != nil {
		return "", err
	}
	if err := s.runAgent(ctx, raw, console); err != nil {
		return "", err
	}
	return machine.Rebooted, nil
}

// installed is the system on the disk, if there is one: config from the boot
// partition, agent program, agent; then it runs until power is cut.
func (s *server) installed(ctx context.Context, console io.Writer) (machine.Stop, error) {
	config, ok := s.host.Files()["ignition/config.ign"]
	if !ok {
		return machine.NotBooted, nil
	}
	s.fromDisk.Add(1)
	if err := s.runAgent(ctx, config.Data, console); err != nil {
		return "", err
	}
	s.arrived.Add(1)
	<-ctx.Done()
	return machine.Killed, nil
}

func (s *server) runAgent(ctx context.Context, config []byte, console io.Writer) error {
	f, err := readConfig(config)
	if err != nil {
		return err
	}
	if err := f.fetchAgent(ctx); err != nil {
		return err
	}
	return agent.RunWith(ctx, f.ticket, s.host, console)
}

// host is the machine under the agent, with a count of what must happen once.
type host struct {
	*agenttest.Host
	opened atomic.Int64 // disks that were opened to be written
}

func newHost(s machine.Spec) *host {
	f := fleet.Facts{
		Source: fleet.SeenByAgent, Identity: fleet.NewIdentity(s.UUID, s.Serial), MemoryMiB: fleet.Known(int64(s.MemoryMiB)),
		CPU: fleet.CPU{Threads: fleet.Known(s.CPUs), Virtualization: fleet.Known(true), Flags: []string{"vmx"}},
		KVM: fleet.Known(fleet.KVM{Modules: []string{"kvm", "kvm_intel"}, Device: true, Usable: true}),
	}
	for _, d := range s.Disks {
		media := fleet.MediaSSD
		if d.Rotating {
			media = fleet.MediaHDD
		}
		f.Disks = append(f.Disks, fleet.Disk{Serial: d.Serial, WWN: d.WWN, Model: d.Model, SizeBytes: fleet.Known(d.SizeBytes), Media: media, Source: d.Name})
	}
	for _, n := range s.NICs {
		f.NICs = append(f.NICs, fleet.NIC{MAC: n.MAC, Link: fleet.Known(true), Source: "eno1"})
	}
	return &host{Host: agenttest.NewHost(f)}
}

// Look implements agent.Host.
func (h *host) Look(ctx context.Context) fleet.Facts {
	f := h.Host.Look(ctx)
	f.At = time.Now()
	f.Clock = fleet.Known(f.At)
	return f
}

// OpenDisk implements agent.Host.
func (h *host) OpenDisk(ctx context.Context, ref fleet.DiskRef) (agent.Disk, error) {
	d, err := h.Host.OpenDisk(ctx, ref)
	if err != nil {
		return nil, err
	}
	h.opened.Add(1)
	return thin{d}, nil
}

// thin keeps zeros out of memory, so that a thousand disks fit into it.
type thin struct{ agent.Disk }

// WriteAt implements io.WriterAt.
func (d thin) WriteAt(p []byte, off int64) (int, error) {
	const piece = 4096
	var zeros [piece]byte
	for n := 0; n < len(p); {
		k := min(len(p)-n, piece-int(off%piece))
		part := p[n : n+k]
		var err error
		if bytes.Equal(part, zeros[:k]) {
			err = d.Zero(off, int64(k))
		} else {
			_, err = d.Disk.WriteAt(part, off)
		}
		if err != nil {
			return n, err
		}
		n, off = n+k, off+int64(k)
	}
	return len(p), nil
}

// waitArrived returns when every installed system was told that all is done. A
// cut engine may have known of an arrival whose answer was lost; its machine
// then asks again.
func (r *rack) waitArrived() {
	for _, s := range r.servers {
		for s.arrived.Load() == 0 {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// check compares what happened on the machines with what must have happened:
// each planned disk written once, with the image, nothing else written, and
// nothing left in drives and sessions. whole means that one engine did it all,
// so that each machine booted as rarely as it can.
func (r *rack) check(p fleet.Plan, image []byte, whole bool) error {
	var errs []error
	wrong := func(s *server, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: "+format, append([]any{s.spec.Name}, args...)...))
	}
	for _, s := range r.servers {
		a, ok := p.Assignment(fleet.NewIdentity(s.spec.UUID, s.spec.Serial).ID())
		if !ok {
			wrong(s, "not in the plan")
			continue
		}
		if n := s.host.opened.Load(); n != 1 {
			wrong(s, "a disk was opened %d times to be written", n)
		}
		if whole && (s.fromMedia.Load() != 1 || s.fromDisk.Load() != 1 || s.host.Reboots() != 1) {
			wrong(s, "%d boots from the medium, %d from disk, %d restarts", s.fromMedia.Load(), s.fromDisk.Load(), s.host.Reboots())
		}
		if n := s.arrived.Load(); n < 1 {
			wrong(s, "the installed system did not end its report")
		}
		// An engine that is cut while it logs in leaves a session to its timeout.
		if st := s.bmc.Status(); len(st.Media) > 0 || (whole && st.Sessions > 0) {
			wrong(s, "media %v and %d sessions were left behind", st.Media, st.Sessions)
		}
		for _, d := range s.spec.Disks {
			errs = append(errs, s.checkDisk(d, d.Serial == a.InstallDisk.Serial, image))
		}
		errs = append(errs, s.faults...)
	}
	return errors.Join(errs...)
}

func (s *server) checkDisk(d machine.Disk, planned bool, image []byte) error {
	disk := s.host.Disk(d.Serial)
	if !planned {
		if n := disk.Written(); n != 0 {
			return fmt.Errorf("%s: %d bytes were written to disk %s, which was not planned", s.spec.Name, n, d.Serial)
		}
		return nil
	}
	// Partition tables at both ends are adapted to the size of the disk.
	const table = 33 * 512
	got := make([]byte, len(image))
	if _, err := disk.ReadAt(got, 0); err != nil {
		return fmt.Errorf("%s: %w", s.spec.Name, err)
	}
	body := func(b []byte) []byte { return b[1<<20 : len(b)-table] }
	if !bytes.Equal(body(got), body(image)) {
		return fmt.Errorf("%s: disk %s does not hold the image", s.spec.Name, d.Serial)
	}
	return nil
}
