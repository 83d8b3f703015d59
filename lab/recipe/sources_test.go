package recipe

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestHostSources(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  []string // nil: refused
	}{
		"one line": {
			map[string]string{"sources.list": "# x\ndeb http://mirror.test/debian trixie main contrib\ndeb-src http://mirror.test/debian trixie main\n" +
				"deb [arch=amd64 signed-by=/k.gpg] http://mirror.test/debian-security trixie-security main # y\ndeb http://mirror.test/debian trixie-backports main\n"},
			[]string{"deb http://mirror.test/debian bookworm main", "deb [signed-by=/k.gpg] http://mirror.test/debian-security bookworm-security main"},
		},
		"stanzas, and archives of others": {
			map[string]string{
				"sources.list.d/debian.sources": "Types: deb deb-src\nURIs: http://a.test/debian\nSuites: trixie trixie-updates\nComponents: main\nSigned-By: /k.gpg\n\n" +
					"Types: deb\nEnabled: no\nURIs: http://off.test/debian\nSuites: trixie\nComponents: main\n",
				"sources.list.d/other.sources": "Types: deb\nURIs: http://other.test\nSuites: nodistro\nComponents: main\n",
				"sources.list.d/other.list":    "deb http://other.test/apt trixie-tools main\n",
			},
			[]string{"deb [signed-by=/k.gpg] http://a.test/debian bookworm main", "deb [signed-by=/k.gpg] http://a.test/debian bookworm-updates main"},
		},
		"key inside the stanza": {
			map[string]string{"sources.list.d/d.sources": "Types: deb\nURIs: http://a.test/debian\nSuites: trixie\nComponents: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n abc: def\n"},
			[]string{"deb http://a.test/debian bookworm main"},
		},
		"broken": {map[string]string{"sources.list": "deb [arch=amd64 http://a.test trixie main\ndeb http://a.test\n"}, nil},
		"none":   {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			c := c
			if c.files == nil {
				c.files = map[string]string{}
			}
			for path, text := range c.files {
				put(t, filepath.Join(root, "etc/apt", path), text)
			}
			put(t, filepath.Join(root, "etc/os-release"), "ID=debian\nVERSION_CODENAME=trixie\n")
			got, err := hostSources(root, Bookworm)
			if (err == nil) != (c.want != nil) || !slices.Equal(got, c.want) {
				t.Errorf("got %q, %v\nwant %q", got, err, c.want)
			}
			next, _ := hostSources(root, Trixie)
			for i, line := range next {
				if line != strings.ReplaceAll(c.want[i], string(Bookworm), string(Trixie)) {
					t.Errorf("Debian 13: got %q beside %q", line, c.want[i])
				}
			}
		})
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
