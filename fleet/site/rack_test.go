package site_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/site"
)

func TestCSV(t *testing.T) {
	for name, text := range map[string]string{
		"commas": "\ufeffBMC address,User,Password reference,MAC,Role,Rack position\r\n" +
			"10.0.9.11,root,file:pw,52:54:00:12:34:56,Worker,\"row 3, U12\"\r\n\r\n# spare ones\r\nhttp://10.0.9.12,,,,,\r\n[fd00::1]:8443,admin,vault:bmc,,excluded,\r\n",
		"semicolons": "address;user;password;mac;role;position\n10.0.9.11;root;file:pw;52-54-00-12-34-56;worker;row 3, U12\nhttp://10.0.9.12\n[fd00::1]:8443;admin;vault:bmc;;excluded\n",
	} {
		rows, findings := site.ReadCSV(strings.NewReader(text), "rack.csv", "/srv", 443)
		if len(findings) > 0 || len(rows) != 3 {
			t.Fatalf("%s: %d rows, %+v", name, len(rows), findings)
		}
		r := rows[0]
		if r.Line != 2 || r.Address != "10.0.9.11:443" || r.Login.Username != "root" || r.Login.Password.File != "/srv/pw" ||
			r.MAC != "52:54:00:12:34:56" || r.Role != fleet.Worker || r.Position != "row 3, U12" {
			t.Errorf("%s: %+v", name, r)
		}
		if rows[1].Address != "http://10.0.9.12:80" || rows[1].Login != nil {
			t.Errorf("%s: %+v", name, rows[1])
		}
		if rows[2].Address != "[fd00::1]:8443" || rows[2].Login.Password.Vault != "/srv/vault.age#bmc" {
			t.Errorf("%s: %+v", name, rows[2])
		}
	}
}

// Every bad row is told at once, with its line; a password that stands where a
// reference belongs is not shown.
func TestCSVFaults(t *testing.T) {
	text := `address,user,password,mac,role,position
10.0.9.11,root,file:pw,,,
10.0.9.300,,,,,
10.0.9.11-13,,,,,
10.0.9.11,,,,,
10.0.9.14,root,hunter2,,,
10.0.9.15,root,,,,
10.0.9.16,,,zz:zz,,
10.0.9.17,,,,king,
,,,,,nowhere
10.0.9.18,a,b,c,d,e,f
10.0.9.19,ro"ot,,,,
10.0.9.20,root,env:hunter2 no,,,
`
	rows, findings := site.ReadCSV(strings.NewReader(text), "rack.csv", ".", 443)
	if rows != nil {
		t.Errorf("rows in spite of faults: %+v", rows)
	}
	var got []string
	for _, f := range findings {
		if f.Code != fleet.CodeSiteInvalid || f.Severity != fleet.Blocker || f.Remedy == "" {
			t.Errorf("%+v", f)
		}
		if strings.Contains(f.Text+f.Remedy, "hunter2") {
			t.Errorf("a secret is shown: %s", f.Text)
		}
		place, _, _ := strings.Cut(f.Text, ": ")
		got = append(got, strings.TrimPrefix(place, "rack.csv:"))
	}
	if want := []string{"3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13"}; !slices.Equal(got, want) {
		t.Errorf("lines %v, want %v", got, want)
	}
}

func TestHostileCSV(t *testing.T) {
	for name, text := range map[string]string{
		"empty":            "",
		"only a head":      "address\n",
		"no address":       "user,password\nroot,file:pw\n",
		"unknown column":   "address,colour\n10.0.9.1,red\n",
		"column twice":     "address,ip\n10.0.9.1,10.0.9.2\n",
		"large":            "address\n" + strings.Repeat("#\n", 5<<20),
		"many columns":     strings.Repeat("address,", 100000) + "\n10.0.9.1\n",
		"one endless cell": "address\n\"" + strings.Repeat("a\n", 1<<20),
		"long cell":        "address\n" + strings.Repeat("a", 5000) + "\n",
		"binary":           "address,position\n10.0.9.1,\x00\x1b[2J\n",
		"no head":          strings.Repeat("x", 100000),
		"all rows bad":     "address\n" + strings.Repeat("10.0.9.300\n", 60000),
		"many rows":        "address\n" + manyRows(),
	} {
		rows, findings := site.ReadCSV(strings.NewReader(text), "rack.csv", ".", 443)
		if len(rows) != 0 || len(findings) == 0 || len(findings) > 110 {
			t.Errorf("%s: %d rows, %d findings", name, len(rows), len(findings))
		}
		for _, f := range findings {
			if len(f.Text) > 2000 || strings.Contains(f.Text, "\x1b") {
				t.Errorf("%s: text of %d bytes", name, len(f.Text))
			}
		}
	}
}

func manyRows() string {
	var b strings.Builder
	for i := range 1<<16 + 1 {
		b.WriteString("host" + string(rune('a'+i%26)) + strings.Repeat("x", i%30) + "." + strings.Repeat("y", i/780%60+1) + string(rune('a'+i/46800)) + "\n")
	}
	return b.String()
}

func FuzzCSV(f *testing.F) {
	f.Add("address,user,password\n10.0.9.11,root,file:pw\n")
	f.Add("address;position\n\"10.0.9.11\";\"a\nb\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		rows, findings := site.ReadCSV(strings.NewReader(text), "c", ".", 443)
		if (len(rows) == 0) == (len(findings) == 0) {
			t.Errorf("%d rows and %d findings", len(rows), len(findings))
		}
	})
}

func TestList(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bmcs")
	if err := os.WriteFile(path, []byte("# rack 7\n10.0.9.11-15\n\n 10.0.10.0/28 # spare\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := site.LoadList(path)
	if err != nil || !slices.Equal(got, []string{"10.0.9.11-15", "10.0.10.0/28"}) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := site.LoadList(path + "x"); fleet.CodeOf(err) != fleet.CodeSiteInvalid {
		t.Errorf("%v", err)
	}
}
