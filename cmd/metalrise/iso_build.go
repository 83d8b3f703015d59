package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
	"metalrise.dev/fleet/site"
	"metalrise.dev/ignition"
	"metalrise.dev/images"
	"metalrise.dev/iso"
)

// isoBuild is what build is asked for.
type isoBuild struct {
	single bool
	erases string
	to     outFile
}

const anyMachine = "any"

func isoBuildCommand(o *options) *cobra.Command {
	b := &isoBuild{}
	c := &cobra.Command{
		Use:   "build [--single-node] --to FILE",
		Short: "Make one medium for all servers of the site, or for a single node",
		Long: `build makes one ISO for all servers of the latest plan that are still to be installed.
A machine that boots it finds itself in the plan by its serial or UUID, takes its
planned address, and asks the engine for the rest: run metalrise serve, which asks
for consent. A machine that the plan does not name is left alone and says so on its
console; where the site file has rules for machines (servers known by facts), it asks
the engine and shows up in metalrise status.

The medium erases nothing without the engine. It holds a token that lets a machine
ask who it is, and nothing else; see docs/security.md. It needs a fixed serving.port,
and is to be made anew for a new plan. Put the disk before the medium in the boot
order, or take the medium out when the machine restarts.

With --single-node the ISO carries all that a single node needs: live system, disk
image, the nodes' software, the site file and this program. A machine that boots it
is planned by the rules of the site file, installed, and becomes a ready cluster of
one node by itself: no BMC, no other machine, no network service. See
docs/single-node.md.

Such a medium ERASES the chosen disk of the machine that boots it. Where the site file
names one server (servers, by serial or UUID) only that one is installed; else any
machine is. That is asked for once, now: type the server's serial (or UUID), or
"any". Write the result to a USB drive, or insert it as a virtual medium. Put the
disk before the medium in the boot order, or take the medium out when the machine
says that it is ready.

A single node's file holds no secret but what stands in the site file.
` + exitHelp,
		Example: "  metalrise iso build -f site.yaml --to site.iso\n  metalrise iso build -f site.yaml --single-node --to node.iso\n  metalrise iso build -f site.yaml --single-node --erases SN12345 --to node.iso",
		Args:    usage(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return o.buildISO(c.Context(), b) },
	}
	c.Flags().BoolVar(&b.single, "single-node", false, "make the medium for a cluster of one node")
	c.Flags().StringVar(&b.erases, "erases", "", `consent without a question: serial or UUID of the server, or "any"`)
	b.to.add(c, "file to write the ISO to")
	return c
}

func (o *options) buildISO(ctx context.Context, b *isoBuild) error {
	switch {
	case !b.single && b.erases != "":
		return &exitError{exitUsage, errors.New("--erases is for --single-node: the medium of a site erases nothing by itself, metalrise serve asks for consent")}
	case b.to.path == "" || b.to.path == "-":
		return &exitError{exitUsage, errors.New("--to is missing: which file should the ISO go to?")}
	}
	if err := b.to.mayBeWritten(); err != nil {
		return err
	}
	if !b.single {
		return o.buildSiteISO(ctx, b)
	}
	f, findings := site.Load(o.file)
	if findings = withoutBMCs(findings); f == nil || len(findings) > 0 {
		o.printFindings(findings)
		return &exitError{code: exitFindings}
	}
	x := mediumIndex{Made: time.Now().UTC().Truncate(time.Second), By: who(b.erases != "")}
	parts, err := gatherParts(ctx, f, &x)
	if err != nil {
		return err
	}
	if x.Server, err = singleServer(f.Site()); err != nil {
		return err
	}
	blockers, err := foreseen(f, &x)
	if err != nil {
		return err
	}
	if len(blockers) > 0 {
		o.printFindings(blockers)
		return &exitError{code: exitFindings}
	}
	if err := o.consentToErase(x.Server, b.erases); err != nil {
		return err
	}
	size, err := parts.write(ctx, b.to.path, &x)
	if err != nil {
		return fmt.Errorf("make %s: %w", b.to.path, err)
	}
	if o.output == "json" {
		return o.json(map[string]any{"path": b.to.path, "bytes": size, "build": x.Build, "server": x.Server})
	}
	o.printf("%s: %s, medium %s\n", b.to.path, bytesText(size), x.Build)
	return nil
}

// singleServer is the server that the site file names, zero when it names none.
func singleServer(s fleet.Site) (fleet.Identity, error) {
	wrong := func(path, text, remedy string) error {
		return fleet.NewFault(fleet.CodeSiteInvalid, fleet.Invalid, nil, "%s: %s; %s", path, text, remedy)
	}
	switch {
	case s.Cluster.ControlPlanes > 1:
		return fleet.Identity{}, wrong("cluster.controlPlanes", "a single node is one control plane", "leave it out")
	case s.Cluster.VIP != "" || s.Cluster.LoadBalancer != "":
		return fleet.Identity{}, wrong("cluster.vip", "a single node has its API at its own address", "leave vip and loadBalancer out")
	case len(s.Servers) > 1:
		return fleet.Identity{}, wrong("servers", fmt.Sprintf("%d servers are named", len(s.Servers)), "name one, or none for any machine")
	case len(s.Servers) == 1:
		return fleet.NewIdentity(s.Servers[0].UUID, s.Servers[0].Serial), nil
	}
	return fleet.Identity{}, nil
}

// foreseen plans for a machine that has all that could be asked for, and gives
// what would stop any machine: better told now than by a console far away.
func foreseen(f *site.File, x *mediumIndex) ([]fleet.Finding, error) {
	facts := fleet.Facts{Source: fleet.SeenByAgent, At: time.Now(), Identity: x.Server, MemoryMiB: fleet.Known[int64](1 << 20),
		NICs:         []fleet.NIC{{MAC: "02:00:00:00:00:01", Link: fleet.Known(true)}},
		Disks:        []fleet.Disk{{Serial: "D1", SizeBytes: fleet.Known[int64](1 << 42), Media: fleet.MediaSSD}},
		VirtualMedia: []fleet.MediaSlot{{MediaTypes: []string{"CD"}, How: "action"}}}
	if facts.Identity.ID() == "" {
		facts.Identity = fleet.NewIdentity("", "ANY-MACHINE")
	}
	planned, err := planSingle(f, x, facts)
	var out []fleet.Finding
	for _, finding := range planned.Findings {
		if finding.Severity == fleet.Blocker && finding.Server == "" { // those of a server speak of its hardware
			out = append(out, finding)
		}
	}
	return out, err
}

// consentToErase gets a person's word for what the medium will do.
func (o *options) consentToErase(server fleet.Identity, given string) error {
	want, whom := string(server.ID()), "the machine with serial "+server.Serial
	if server.Serial == "" {
		whom = "the machine with UUID " + server.UUID
	}
	if want == "" {
		want, whom = anyMachine, "ANY machine"
	}
	if given == "" {
		fmt.Fprintf(o.errs, "The medium erases the chosen disk of %s that boots it, without asking again.\nType %q to go on: ", whom, want)
		line, err := bufio.NewReader(o.in).ReadString('\n')
		if given = strings.TrimSpace(line); err != nil && given == "" {
			return fleet.NewFault(fleet.CodeConsentMissing, fleet.Denied, nil, "nobody typed %q, and --erases was not given", want)
		}
	}
	if given != want {
		return fleet.NewFault(fleet.CodeConsentMismatch, fleet.Denied, nil, "%.80q was given, but the medium erases the disk of %s: %q is wanted; nothing was made", given, whom, want)
	}
	return nil
}

// buildParts are the files that a medium is made of, verified.
type buildParts struct {
	base    *iso.Base
	disk    images.Verified
	payload *images.Payload // nil without a cluster
	access  fleet.Access
}

// gatherParts verifies release and software, and writes into the index what is
// known of them.
func gatherParts(ctx context.Context, f *site.File, x *mediumIndex) (*buildParts, error) {
	text, err := os.ReadFile(f.Path())
	if err != nil {
		return nil, fmt.Errorf("read the site file: %w", err)
	}
	s := f.Site()
	release, err := images.Load(ctx, s.Image)
	if err != nil {
		return nil, err
	}
	p := &buildParts{access: s.Access}
	var v images.Verifier // without a memory: there may be no state folder here
	for _, a := range []images.Artifact{release.ISO, release.Disk} {
		got, err := v.Verify(ctx, a, nil)
		if err != nil {
			return nil, err
		}
		p.disk = got // the last one
	}
	if p.base, err = iso.OpenVerified(release.ISO.Path, release.ISO.SHA256); err != nil {
		return nil, err
	}
	x.Site, x.Image = string(text), release.Ref()
	x.Disk = callhome.Image{Format: string(release.Disk.Format), SHA256: release.Disk.UncompressedSHA256, Bytes: release.Disk.UnpackedBytes}
	if s.Cluster.Software == "" {
		return p, nil
	}
	if p.payload, err = images.LoadPayload(ctx, s.Cluster.Software); err != nil {
		return nil, err
	}
	if err := p.payload.Verify(ctx, v, nil); err != nil {
		return nil, err
	}
	value := p.payload.Value()
	x.Payload = &value
	if s.Cluster.CNIManifests != "" {
		manifests, err := readBounded(s.Cluster.CNIManifests, mostManifests)
		if err != nil {
			return nil, fmt.Errorf("cluster.cniManifests: %w", err)
		}
		x.Manifests = string(manifests)
	}
	return p, nil
}

// write makes the medium at path, whole or not at all, readable by its owner, and
// gives its size.
func (p *buildParts) write(ctx context.Context, path string, x *mediumIndex) (int64, error) {
	defer p.base.Close()
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return 0, err
	}
	x.Build = hex.EncodeToString(id[:])
	f, err := os.CreateTemp(filepath.Dir(path), ".metalrise-*")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	size, err := p.fill(ctx, f, x)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	return size, os.Rename(f.Name(), path)
}

func (p *buildParts) fill(ctx context.Context, f *os.File, x *mediumIndex) (int64, error) {
	ref := mediumRef{Build: x.Build, Offset: (p.base.Size()/appendixRoom + 2) * appendixRoom}
	a, err := newAppendix(f, ref.Offset, x.Build)
	if err != nil {
		return 0, err
	}
	if err := p.appendAll(ctx, a, x); err != nil {
		return 0, err
	}
	ref.Program = a.list[0]
	var size int64
	if ref.Index, size, err = a.close(x); err != nil {
		return 0, err
	}
	live := ignition.PreparedLive
	if x.Rack != nil {
		live = ignition.SiteLive
	}
	config, err := live(ref.describe(), p.access, "")
	if err != nil {
		return 0, err
	}
	im, err := p.base.Personalise(iso.Personal{Ignition: config})
	if err != nil {
		return 0, err
	}
	if im.Size() > ref.Offset {
		return 0, fmt.Errorf("the live system's config makes the ISO %d bytes long, room is for %d", im.Size(), ref.Offset)
	}
	_, err = im.WriteRange(io.NewOffsetWriter(f, 0), 0, im.Size())
	return size, err
}

// appendAll appends program, software and, last, the disk image.
func (p *buildParts) appendAll(ctx context.Context, a *appendix, x *mediumIndex) error {
	program, path, err := ownProgram()
	if err != nil {
		return err
	}
	add := func(name string, f *os.File, sum string, size int64, pack bool) error {
		return errors.Join(a.add(ctx, name, f, sum, size, pack), f.Close())
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	if err := add(contentProgram, f, program.sha256, program.bytes, false); err != nil {
		return err
	}
	if x.Rack != nil { // all else is served by the engine
		return nil
	}
	if x.Payload != nil {
		if err := p.appendSoftware(*x.Payload, add); err != nil {
			return err
		}
	}
	if f, err = p.disk.Open(); err != nil {
		return err
	}
	return add(contentDisk, f, p.disk.Artifact().SHA256, p.disk.Artifact().Size, false)
}

func (p *buildParts) appendSoftware(v fleet.Payload, add func(string, *os.File, string, int64, bool) error) error {
	sums := make([]string, 0, len(v.Files)+len(v.Images)+len(v.Manifests))
	for _, x := range v.Files {
		sums = append(sums, x.Digest)
	}
	for _, x := range v.Images {
		sums = append(sums, x.Digest)
	}
	for _, x := range v.Manifests {
		sums = append(sums, x.Digest)
	}
	done := map[string]bool{"": true} // links have no content
	for _, sum := range sums {
		if done[sum] {
			continue
		}
		done[sum] = true
		f, size, err := p.payload.Open(sum)
		if err != nil {
			return err
		}
		if err := add(sum, f, sum, size, true); err != nil {
			return err
		}
	}
	return nil
}

func marshalText(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b) + "\n", err
}

func marshalRef(r mediumRef) (string, error) { return marshalText(r) }
