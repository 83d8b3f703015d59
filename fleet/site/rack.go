package site

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"metalrise.dev/fleet"
)

// Bounds of lists of BMCs. A hall of 65,536 with 60 bytes each are 4 MB.
const (
	maxListBytes  = 8 << 20
	maxListRows   = 1 << 16
	maxListFaults = 100 // told one by one; more are counted
	maxCell       = 1024
)

// column is one kind of cell and the names that its head may have.
type column struct {
	name  string
	heads []string
	set   func(row *fleet.Listed, cell, folder string, port int) error
}

func columns() []column {
	return []column{
		{"address", []string{"address", "bmc", "bmc address", "bmc ip", "ip"}, setAddress},
		{"user", []string{"user", "username", "login"}, func(r *fleet.Listed, cell, _ string, _ int) error {
			loginOf(r).Username = cell
			return checkUsername(cell)
		}},
		{"password", []string{"password", "password reference", "passwordref", "password ref"}, func(r *fleet.Listed, cell, folder string, _ int) error {
			ref, err := ParseSecretRef(cell)
			loginOf(r).Password = InFolder(ref, folder)
			return err
		}},
		{"mac", []string{"mac", "mac address"}, func(r *fleet.Listed, cell, _ string, _ int) error {
			r.MAC = fleet.CleanMAC(cell)
			return checkMAC(cell)
		}},
		{"role", []string{"role"}, func(r *fleet.Listed, cell, _ string, _ int) error {
			r.Role = fleet.Role(strings.ToLower(cell))
			if !contains([]string{string(fleet.ControlPlane), string(fleet.Worker), string(fleet.SingleNode), string(fleet.Excluded)}, string(r.Role)) {
				return fmt.Errorf("%q is no role; use control-plane, worker, single-node or excluded", cell)
			}
			return nil
		}},
		{"position", []string{"position", "rack", "rack position", "rackposition"}, func(r *fleet.Listed, cell, _ string, _ int) error {
			r.Position = cell
			return nil
		}},
	}
}

func loginOf(r *fleet.Listed) *fleet.Credential {
	if r.Login == nil {
		r.Login = &fleet.Credential{}
	}
	return r.Login
}

func setAddress(r *fleet.Listed, cell, _ string, port int) error {
	a, err := fleet.ParseAddressRange(cell)
	if err != nil {
		return err
	}
	all := a.Addresses(port)
	if len(all) != 1 {
		return fmt.Errorf("%q is more than one address; a row is one BMC", cell)
	}
	r.Address = all[0]
	return nil
}

// LoadCSV reads the CSV file at path. See ReadCSV.
func LoadCSV(path string, port int) ([]fleet.Listed, []fleet.Finding) {
	in, err := os.Open(path)
	if err != nil {
		return nil, []fleet.Finding{fault(path, 0, "", "the CSV file cannot be opened: "+reason(err), "Give the right path.")}
	}
	defer in.Close()
	return ReadCSV(in, path, filepath.Dir(path), port)
}

// ReadCSV reads a list of BMCs of at most 8 MiB and 65,536 rows. The first row
// names the columns, in any order; only address must be there. Cells are set
// apart by commas, or by semicolons where the first row has no comma. A password
// cell is a reference as of ParseSecretRef, whose paths start in folder. Every
// bad row is reported with its line, and no rows are returned then. port is that
// of addresses without one.
func ReadCSV(in io.Reader, name, folder string, port int) ([]fleet.Listed, []fleet.Finding) {
	text, err := io.ReadAll(io.LimitReader(in, maxListBytes+1))
	if err != nil {
		return nil, []fleet.Finding{fault(name, 0, "", "the CSV file cannot be read: "+reason(err), "Read the cause.")}
	}
	if len(text) > maxListBytes {
		return nil, []fleet.Finding{fault(name, 0, "", fmt.Sprintf("the CSV file is larger than %d MiB", maxListBytes>>20), "Check what this file is, or split it.")}
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // spreadsheets write it
	p := &listReader{name: name, folder: folder, port: port, known: map[string]int{}}
	p.csv = csv.NewReader(bytes.NewReader(text))
	p.csv.FieldsPerRecord, p.csv.TrimLeadingSpace, p.csv.ReuseRecord = -1, true, true
	first, _, _ := strings.Cut(string(text[:min(len(text), 4096)]), "\n")
	if strings.Contains(first, ";") && !strings.Contains(first, ",") {
		p.csv.Comma = ';'
	}
	return p.read()
}

type listReader struct {
	name, folder string
	port         int
	csv          *csv.Reader
	columns      []column // by position
	rows         []fleet.Listed
	known        map[string]int // line by address
	findings     []fleet.Finding
	more         int // faults that are only counted
}

func (p *listReader) fault(line int, text, remedy string) {
	if len(p.findings) >= maxListFaults {
		p.more++
		return
	}
	p.findings = append(p.findings, fault(p.name, line, "", text, remedy))
}

func (p *listReader) read() ([]fleet.Listed, []fleet.Finding) {
	if !p.head() {
		return nil, p.findings
	}
	for {
		cells, err := p.csv.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			var where *csv.ParseError
			if !errors.As(err, &where) {
				p.fault(0, "the CSV file cannot be read", "Read the cause.")
				break
			}
			p.fault(where.StartLine, "the row is not CSV: "+where.Err.Error(), "Look at the quotes of this row.")
			continue
		}
		line, _ := p.csv.FieldPos(0)
		if len(p.rows) == maxListRows {
			p.fault(line, fmt.Sprintf("the file has more than %d rows", maxListRows), "Split it.")
			break
		}
		p.row(line, cells)
	}
	if p.more > 0 {
		p.findings = append(p.findings, fault(p.name, 0, "", fmt.Sprintf("%d more faults are not shown", p.more), "Correct the ones above first."))
	}
	if len(p.findings) == 0 && len(p.rows) == 0 {
		p.fault(0, "the file has no row below its head", "Add one row for each BMC.")
	}
	if len(p.findings) > 0 {
		return nil, p.findings
	}
	return p.rows, nil
}

// head reads the names of the columns.
func (p *listReader) head() bool {
	const form = "Begin the file with a row such as `address,user,password,mac,role,position`."
	cells, err := p.csv.Read()
	if err != nil {
		p.fault(1, "the file has no row of column names", form)
		return false
	}
	all := columns()
	var names []string
	for _, c := range all {
		names = append(names, c.name)
	}
	used := map[string]bool{}
	for _, cell := range cells {
		head := strings.Join(strings.Fields(strings.ToLower(strings.NewReplacer("_", " ", "-", " ").Replace(cell))), " ")
		i := slices.IndexFunc(all, func(c column) bool { return contains(c.heads, head) })
		switch {
		case i < 0 && len(cell) > 64:
			p.fault(1, "the first row does not name columns", form)
			return false
		case i < 0:
			p.fault(1, fmt.Sprintf("there is no column %q", cell), "The columns are "+strings.Join(names, ", ")+"."+nearest(head, names))
			p.columns = append(p.columns, column{})
			continue
		case used[all[i].name]:
			p.fault(1, fmt.Sprintf("the column %s appears twice", all[i].name), "Remove one of the two.")
		}
		used[all[i].name] = true
		p.columns = append(p.columns, all[i])
	}
	if !used["address"] {
		p.fault(1, "there is no column address", form)
	}
	return len(p.findings) == 0
}

func (p *listReader) row(line int, cells []string) {
	if len(cells) == 1 && strings.TrimSpace(cells[0]) == "" || strings.HasPrefix(strings.TrimSpace(cells[0]), "#") {
		return // an empty line of spaces, or a comment
	}
	before := len(p.findings) + p.more
	if len(cells) > len(p.columns) {
		p.fault(line, fmt.Sprintf("the row has %d cells, the first row names %d columns", len(cells), len(p.columns)), "Quote cells that hold a comma.")
		return
	}
	r := fleet.Listed{Line: line}
	for i, cell := range cells {
		cell = strings.TrimSpace(cell)
		c := p.columns[i]
		switch {
		case cell == "":
		case len(cell) > maxCell || strings.ContainsFunc(cell, func(r rune) bool { return !unicode.IsPrint(r) }):
			p.fault(line, "the cell of column "+c.name+" is longer than 1024 bytes or holds what cannot be printed", "Correct it.")
		default:
			if err := c.set(&r, cell, p.folder, p.port); err != nil {
				p.fault(line, "column "+c.name+": "+err.Error(), "Correct this row.")
			}
		}
	}
	if len(p.findings)+p.more > before {
		return
	}
	other, twice := p.known[r.Address]
	switch {
	case r.Address == "":
		p.fault(line, "the row has no address", "Add it, or remove the row.")
	case twice:
		p.fault(line, fmt.Sprintf("%s is also in line %d", r.Address, other), "Remove one of the two.")
	case r.Login != nil && (r.Login.Username == "" || r.Login.Password.IsZero()):
		p.fault(line, "the row has only one of user and password", "Give both, or none to use the site's login.")
	default:
		p.known[r.Address] = line
		p.rows = append(p.rows, r)
	}
}

// LoadList reads a file of address patterns, one on each line; what follows a #
// is a comment.
func LoadList(path string) ([]string, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, invalid(errors.New(reason(err)), "list %s", path)
	}
	defer in.Close()
	b, err := io.ReadAll(io.LimitReader(in, maxListBytes+1))
	if err != nil {
		return nil, invalid(errors.New(reason(err)), "list %s", path)
	}
	if len(b) > maxListBytes {
		return nil, invalid(nil, "list %s is larger than %d MiB", path, maxListBytes>>20)
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if len(out) == maxListRows {
			return nil, invalid(nil, "list %s has more than %d lines", path, maxListRows)
		}
		out = append(out, line[:min(len(line), 300)])
	}
	return out, nil
}
