package bmctest_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"metalrise.dev/lab/redfish"
)

var update = flag.Bool("update", false, "write docs/compatibility.md anew")

const page = "../../docs/compatibility.md"

// TestPage holds docs/compatibility.md to the table of rows, which TestQuirks
// holds to what it sees.
func TestPage(t *testing.T) {
	text := render()
	if *update {
		if err := os.WriteFile(filepath.FromSlash(page), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(filepath.FromSlash(page))
	if err != nil {
		t.Fatal(err)
	}
	if string(kept) != text {
		t.Errorf("%s is stale: go test ./bmc/bmctest -run TestPage -update", page)
	}
}

// TestEveryQuirkIsProven wants a row for each switch of the emulated BMC, and a
// name that no other has.
func TestEveryQuirkIsProven(t *testing.T) {
	known := map[redfish.Quirk]bool{}
	for _, q := range redfish.Quirks() {
		if known[q.Quirk] || q.Row < 1 || q.Row > len(rows()) {
			t.Errorf("quirk %s of row %d: named twice, or of a row there is not", q.Quirk, q.Row)
		}
		known[q.Quirk] = true
		if f, err := redfish.ParseFault("quirk name=" + string(q.Quirk)); (err == nil) == q.Start || err == nil && f.Quirk != q.Quirk {
			t.Errorf("quirk %s as a fault: %+v, %v", q.Quirk, f, err)
		}
	}
}

func render() string {
	var b strings.Builder
	count := map[result]int{}
	for _, r := range rows() {
		count[r.result()]++
	}
	fmt.Fprintf(&b, head, count[pass], count[partial], count[open])
	b.WriteString(quirkTable())
	b.WriteString(gapTable())
	b.WriteString(tail)
	return b.String()
}

func quirkTable() string {
	var b strings.Builder
	b.WriteString("\n## What BMCs do, and what becomes of it\n\n")
	b.WriteString("Each row is proven by `TestQuirks/rowNN` of `bmc/bmctest`; its parts are named in the last column. A part that is not\n" +
		"handled is struck through; why stands below. Switches are those of the emulated BMC: `metalrise lab fault` gives one with\n`quirk name=...`.\n\n")
	b.WriteString("| row | what BMCs do | what we do | result | switches of the emulated BMC | proofs |\n|---|---|---|---|---|---|\n")
	for _, r := range rows() {
		var proofs, switches []string
		for _, p := range r.proofs {
			name := p.name
			if p.gap != "" {
				name = "~~" + name + "~~"
			}
			proofs = append(proofs, name)
		}
		for _, q := range redfish.Quirks() {
			if q.Row == r.n {
				switches = append(switches, "`"+string(q.Quirk)+"`")
			}
		}
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %s | %s |\n", r.n, r.quirk, r.does, r.result(), strings.Join(switches, " "), strings.Join(proofs, ", "))
	}
	return b.String()
}

func gapTable() string {
	var b strings.Builder
	for _, r := range rows() {
		for _, p := range r.proofs {
			if p.gap != "" {
				fmt.Fprintf(&b, "| %d | %s | %s |\n", r.n, p.name, p.gap)
			}
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return "\n## What is not handled\n\n| row | part | why |\n|---|---|---|\n" + b.String()
}

func personalities() string {
	var out []string
	for _, p := range redfish.Personalities() {
		out = append(out, "`"+p.Name+"`")
	}
	slices.Sort(out[1:])
	return strings.Join(out, ", ")
}

const head = `# Compatibility with BMCs

<!-- Written by: go test ./bmc/bmctest -run TestPage -update. Do not edit. -->

What package ` + "`bmc`" + ` is tested with. **Nothing here was tried on a physical server by this project**: acts (power, media, boot) are
tried against emulated BMCs, and "recorded tree" means answers that a real BMC, or a published mock-up, once gave.

Of 79 rows pass: %d, in part: %d, open: %d.

## What is needed of a BMC

Redfish over TLS; a login that may use sessions or basic authentication; a system with serial or UUID, a Reset action, and a
virtual drive that takes a CD image by an ` + "`https`" + ` address. A BMC that insists on *verifying* the image server's certificate needs
the site's authority among those it trusts.
`

var tail = `
## How it is tried

- ` + "`bmctest.Run`" + ` holds every kind of BMC to the same promises: one in memory, the emulated BMC in each personality
  (` + personalities() + `), and the recorded trees, which are read only.
- ` + "`TestQuirks`" + ` proves the rows above against the emulated BMC (` + "`lab/redfish`" + `), with a switch or a reshaped resource for each.
- OpenStack's client library sushy drives the emulated BMC through power and virtual media in the personalities that it can
  be expected to accept (` + "`lab/redfish`, `TestSushy`" + `), so that client and emulation do not merely agree with each other.
- A real BMC is tried with ` + "`METALRISE_BMC=address METALRISE_BMC_USER=name METALRISE_BMC_PASSWORD_FILE=file go test ./bmc/bmctest -run TestHardware -v`" + `,
  which only reads. With ` + "`METALRISE_BMC_DRIVE=\"switch it off\"`" + ` and ` + "`METALRISE_BMC_IMAGE=address`" + ` it also drives that server, which ends switched off.

## Recorded trees

The trees themselves are not part of this repository: ` + "`METALRISE_CORPUS`" + ` names their folder, and the tests are skipped without it.
` + "`TestCorpus`" + ` of ` + "`bmc`" + ` compares the facts with ` + "`bmc/testdata/golden`" + `.

| tree | maker, model, firmware |
|---|---|
| ` + "`dell-r750-idrac9-6.00.30`" + ` | Dell PowerEdge R750, iDRAC 9 6.00.30 |
| ` + "`hpe-dl360gen10-ilo5-2.96`" + ` | HPE ProLiant DL360 Gen10, iLO 5 2.96 |
| ` + "`hpe-dl380agen11-ilo6-1.66`" + ` | HPE ProLiant DL380a Gen11, iLO 6 1.66 |
| ` + "`supermicro-x10sdv-redfish1.0.1`" + ` | Supermicro X10SDV, Redfish 1.0.1 |
| ` + "`cisco-c220m4s-cimc-4.1.2g`" + ` | Cisco UCS C220 M4S, CIMC 4.1(2g) |
| ` + "`hpecray-ex235a`" + ` | HPE Cray EX235a |
| ` + "`nvidia-gh200`" + ` | NVIDIA GH200 |
| ` + "`openbmc-stock-2.15dev`" + ` | OpenBMC, stock build |
| ` + "`dmtf-public-rackmount1`, `-bladed`, `-localstorage`" + ` | mock-ups published by the DMTF |
`
