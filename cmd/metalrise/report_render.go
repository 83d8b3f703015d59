package main

import (
	"bytes"
	"cmp"
	"fmt"
	"html/template"
	"strings"
	"time"

	"metalrise.dev/fleet"
)

// sheet is a report as people read it, in whatever form.
type sheet struct {
	Title    string
	Lead     []string
	Sections []section
	Foot     []string
}

// section is a heading with a table or sentences.
type section struct {
	Title string
	Text  []string
	Head  []string
	Rows  [][]string
}

// sheetOf lays a report out.
func sheetOf(b asBuilt, fingerprint string) sheet {
	s := sheet{Title: "As-built report of site " + b.Site, Lead: []string{
		fmt.Sprintf("Plan %s, made with metalrise %s. Report of %s.", b.Plan, b.Metalrise, stamp(b.MadeAt)),
	}}
	if b.HandedOver.IsZero() {
		s.Lead = append(s.Lead, "NOT HANDED OVER: not everything that the plan wants is there.")
	} else {
		s.Lead = append(s.Lead, "Handed over "+stamp(b.HandedOver)+".")
	}
	s.Sections = append(s.Sections, clusterSection(b), serverSection(b), hardwareSection(b), networkSection(b), diskSection(b), timingSection(b))
	if b.Platform != nil {
		s.Sections = append(s.Sections, componentSection(b), platformSection(b), proofSection(b), figureSection(b))
	}
	s.Sections = append(s.Sections, consentSection(b), findingSection(b))
	if len(b.Accepted) > 0 {
		acc := section{Title: "Differences that were accepted later", Head: []string{"when", "by", "what"}}
		for _, a := range b.Accepted {
			for _, d := range a.Differences {
				acc.Rows = append(acc.Rows, []string{stamp(a.At), a.By, d})
			}
		}
		s.Sections = append(s.Sections, acc)
	}
	s.Foot = []string{
		"The file " + builtJSON + " is signed with the site's key " + fingerprint + "; metalrise report verify " + builtJSON + " checks that.",
		"Signed by a person (name, date): ______________________________",
	}
	return s
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

func clusterSection(b asBuilt) section {
	s := section{Title: "System and cluster", Head: []string{"what", "value"}, Rows: [][]string{
		{"operating system", b.System.Stream + " " + b.System.Version}, {"disk image SHA-256", b.System.DiskSHA256},
	}}
	if c := b.Cluster; c != nil {
		s.Rows = append(s.Rows, []string{"Kubernetes", c.Version}, []string{"API", fmt.Sprintf("https://%s:%d (%s)", c.Endpoint.Address, c.Endpoint.Port, c.Endpoint.Kind)},
			[]string{"pods, services", c.PodCIDR + ", " + c.ServiceCIDR}, []string{"pod network", string(c.CNI)}, []string{"software of the nodes", c.Payload})
		if c.Emulation {
			s.Rows = append(s.Rows, []string{"virtualization", "EMULATED in software: for rehearsal only"})
		}
	}
	return s
}

func serverSection(b asBuilt) section {
	s := section{Title: "Servers", Head: []string{"host", "role", "serial", "UUID", "BMC", "state", "KVM"}}
	for _, x := range b.Servers {
		kvm := "unknown"
		if x.KVM != nil {
			kvm = "works"
			if !x.KVM.Usable {
				kvm = "NO: " + x.KVM.Why
			}
		}
		s.Rows = append(s.Rows, []string{x.Hostname, string(x.Role), orDash(x.Identity.Serial), orDash(x.Identity.UUID), x.BMC, string(x.Phase), kvm})
	}
	return s
}

func hardwareSection(b asBuilt) section {
	s := section{Title: "Hardware and firmware", Head: []string{"host", "model", "BIOS", "BMC firmware", "processor", "memory"}}
	for _, x := range b.Servers {
		memory := "-"
		if x.MemoryMiB > 0 {
			memory = fmt.Sprintf("%d MiB", x.MemoryMiB)
		}
		cpu := orDash(x.CPU)
		if x.Threads > 0 {
			cpu += fmt.Sprintf(", %d threads", x.Threads)
		}
		s.Rows = append(s.Rows, []string{x.Hostname, orDash(strings.TrimSpace(x.Manufacturer + " " + x.Model)), orDash(x.BIOS), orDash(x.BMCFirmware), cpu, memory})
	}
	return s
}

func networkSection(b asBuilt) section {
	s := section{Title: "Network ports", Head: []string{"host", "port", "MAC", "Mbit/s", "address"}}
	for _, x := range b.Servers {
		for _, n := range x.NICs {
			speed, address := "-", ""
			if n.Speed > 0 {
				speed = fmt.Sprint(n.Speed)
			}
			if n.Used {
				address = x.Network.Address
			}
			s.Rows = append(s.Rows, []string{x.Hostname, orDash(n.Name), n.MAC, speed, orDash(address)})
		}
	}
	return s
}

func diskSection(b asBuilt) section {
	s := section{Title: "Disks", Head: []string{"host", "disk", "what was done"}}
	for _, x := range b.Servers {
		if x.Erased != nil {
			s.Rows = append(s.Rows, []string{x.Hostname, diskText(*x.Erased), "ERASED and written"})
		}
		for _, d := range x.Kept {
			s.Rows = append(s.Rows, []string{x.Hostname, diskText(d), "not touched"})
		}
	}
	return s
}

func diskText(d fleet.DiskRef) string {
	return strings.Join(strings.Fields(fmt.Sprintf("%s %s %s %s", d.Model, serialText(d.Serial), d.WWN, sizeText(d.SizeBytes))), " ")
}

func serialText(s string) string {
	if s == "" {
		return ""
	}
	return "serial " + s
}

func sizeText(bytes int64) string {
	if bytes <= 0 {
		return ""
	}
	return bytesText(bytes)
}

func timingSection(b asBuilt) section {
	s := section{Title: "Time taken", Text: []string{"Seconds from one milestone to the next, waits for other servers included."}, Head: []string{"host", "attempts", "booted by"}}
	for _, m := range milestones {
		s.Head = append(s.Head, m.name)
	}
	for _, x := range b.Servers {
		row := []string{x.Hostname, fmt.Sprint(x.Attempts), bootedBy(x)}
		for _, m := range milestones {
			cell := "-"
			for _, t := range x.Timings {
				if t.To == m.name {
					cell = fmt.Sprintf("%.0f", t.Seconds)
				}
			}
			row = append(row, cell)
		}
		s.Rows = append(s.Rows, row)
	}
	return s
}

// bootedBy tells the route, the medium and how much of it the BMC read.
func bootedBy(x builtServer) string {
	parts := []string{orDash(string(x.Route))}
	if x.Medium != "" {
		parts = append(parts, string(x.Medium)+" medium")
	}
	if x.Fetched > 0 {
		parts = append(parts, bytesText(x.Fetched)+" read")
	}
	return strings.Join(parts, ", ")
}

func componentSection(b asBuilt) section {
	s := section{Title: "Components of the VM platform", Head: []string{"component", "version", "state", "seconds", "remark"}}
	for _, c := range b.Components {
		remark := c.Note
		if c.Unproven != "" {
			remark = strings.TrimPrefix(remark+"; UNPROVEN: "+c.Unproven, "; ")
		}
		s.Rows = append(s.Rows, []string{string(c.Name), cmp.Or(c.Version, "by metalrise"), string(c.State), fmt.Sprintf("%.0f", c.Seconds), orDash(remark)})
	}
	return s
}

func platformSection(b asBuilt) section {
	p := b.Platform
	s := section{Title: "Settings of the VM platform", Head: []string{"what", "value"}}
	row := func(a, b string) { s.Rows = append(s.Rows, []string{a, b}) }
	cpu := cmp.Or(p.CPUModel, "the host's own")
	if p.Emulation {
		cpu = "EMULATED in software: for rehearsal only"
	}
	row("processor of VMs", cpu)
	row("memory promised", fmt.Sprintf("%d %%", cmp.Or(p.MemoryOvercommit, 100)))
	for _, n := range p.Networks {
		row("VM network", networkText(n, ""))
	}
	row("volumes", storageText(p.Storage))
	row("room", roomText(p.Capacity))
	return s
}

func proofSection(b asBuilt) section {
	s := section{Title: "Proofs", Head: []string{"proof", "result", "when", "seconds", "what was seen"}}
	for _, p := range b.Proofs {
		seen := p.Note
		switch {
		case p.State == fleet.StepSkipped:
			seen = "not run: " + p.Note
		case p.Cause != nil && p.State == fleet.StepFailed:
			seen = string(p.Cause.Code) + " " + strings.Join(p.Cause.Chain, ": ")
		case p.Result != nil && len(p.Result.Words) > 0:
			seen = strings.Join(p.Result.Words, "; ")
		}
		s.Rows = append(s.Rows, []string{string(p.Name), string(p.State), stamp(p.At), fmt.Sprintf("%.0f", p.Seconds), orDash(seen)})
	}
	return s
}

func figureSection(b asBuilt) section {
	s := section{Title: "Figures of the proofs", Head: []string{"proof", "figure", "value"}}
	for _, p := range b.Proofs {
		for _, name := range figureNames(p.Result) {
			s.Rows = append(s.Rows, []string{string(p.Name), name, fmt.Sprintf("%.4g", p.Result.Measured[name])})
		}
		if p.Result == nil {
			continue
		}
		for _, v := range p.Result.VMs {
			where := v.Node
			if v.From != "" {
				where = v.From + " to " + v.Node
			}
			s.Rows = append(s.Rows, []string{string(p.Name), "VM " + v.Name, strings.TrimSuffix(where+": "+v.Guest, ": ")})
		}
	}
	return s
}

func consentSection(b asBuilt) section {
	s := section{Title: "Consents", Head: []string{"when", "plan", "by", "disks to be erased"}}
	for _, c := range b.Consents {
		s.Rows = append(s.Rows, []string{stamp(c.At), c.Plan[:min(12, len(c.Plan))], c.By, fmt.Sprint(c.EraseDisks)})
	}
	return s
}

func findingSection(b asBuilt) section {
	s := section{Title: "Remarks of the plan", Head: []string{"code", "severity", "server", "text"}}
	for _, f := range b.Findings {
		s.Rows = append(s.Rows, []string{string(f.Code), string(f.Severity), orDash(string(f.Server)), f.Text})
	}
	return s
}

// reportMarkdown writes a report as Markdown.
func reportMarkdown(b asBuilt, fingerprint string) []byte {
	s := sheetOf(b, fingerprint)
	var w bytes.Buffer
	// What BMCs say of themselves must not become markup.
	safe := strings.NewReplacer("|", "\\|", "\n", " ", "\r", " ", "<", "&lt;", "`", "'", "[", "\\[", "*", "\\*", "_", "\\_")
	fmt.Fprintf(&w, "# %s\n\n", safe.Replace(s.Title))
	for _, l := range s.Lead {
		fmt.Fprintf(&w, "%s\n\n", safe.Replace(l))
	}
	for _, sec := range s.Sections {
		fmt.Fprintf(&w, "## %s\n\n", sec.Title)
		for _, l := range sec.Text {
			fmt.Fprintf(&w, "%s\n\n", safe.Replace(l))
		}
		if len(sec.Rows) == 0 {
			w.WriteString("None.\n\n")
			continue
		}
		fmt.Fprintf(&w, "| %s |\n|%s\n", strings.Join(sec.Head, " | "), strings.Repeat("---|", len(sec.Head)))
		for _, row := range sec.Rows {
			cells := make([]string, len(row))
			for i, c := range row {
				cells[i] = safe.Replace(c)
			}
			fmt.Fprintf(&w, "| %s |\n", strings.Join(cells, " | "))
		}
		w.WriteString("\n")
	}
	for _, l := range s.Foot {
		fmt.Fprintf(&w, "%s\n\n", safe.Replace(l))
	}
	return w.Bytes()
}

// reportHTML writes a report as one page without anything from elsewhere, to
// look at and to print.
func reportHTML(b asBuilt, fingerprint string) ([]byte, error) {
	t, err := template.New("report").Parse(reportPage)
	if err != nil {
		return nil, fmt.Errorf("write report page: %w", err)
	}
	var w bytes.Buffer
	if err := t.Execute(&w, sheetOf(b, fingerprint)); err != nil {
		return nil, fmt.Errorf("write report page: %w", err)
	}
	return w.Bytes(), nil
}

const reportPage = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}}</title>
<style>
body { font: 14px/1.45 system-ui, sans-serif; color: #111; background: #fff; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.1rem; margin-top: 2rem; border-bottom: 1px solid #999; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; vertical-align: top; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid #ddd; overflow-wrap: anywhere; }
th { white-space: nowrap; } footer { margin-top: 2rem; border-top: 1px solid #999; }
@media print { body { font-size: 10px; margin: 0; max-width: none; } tr, h2 { break-inside: avoid; } h2 { break-after: avoid; } thead { display: table-header-group; } }
</style>
</head>
<body>
<h1>{{.Title}}</h1>
{{range .Lead}}<p>{{.}}</p>
{{end}}{{range .Sections}}<section>
<h2>{{.Title}}</h2>
{{range .Text}}<p>{{.}}</p>
{{end}}{{if .Rows}}<table>
<thead><tr>{{range .Head}}<th>{{.}}</th>{{end}}</tr></thead>
<tbody>
{{range .Rows}}<tr>{{range .}}<td>{{.}}</td>{{end}}</tr>
{{end}}</tbody>
</table>{{else}}<p>None.</p>{{end}}
</section>
{{end}}<footer>
{{range .Foot}}<p>{{.}}</p>
{{end}}</footer>
</body>
</html>
`
