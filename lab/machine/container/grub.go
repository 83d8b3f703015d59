package container

import (
	"fmt"
	"strings"
)

// kernelEntry is what a boot loader configuration says to start.
type kernelEntry struct {
	Kernel string   // path on the boot file system
	Args   []string // kernel arguments
}

// grub runs the part of GRUB's language that boot loader configurations of
// CoreOS-like systems use: set, source, if/elif/else/fi with file and string
// tests, menuentry, linux. Everything else is passed over, as it only concerns
// screens, modules and finding the file system that is already found.
type grub struct {
	exists func(path string) bool
	read   func(path string) (string, error)
	vars   map[string]string
	entry  *kernelEntry
	blocks []grubBlock
	depth  int // of source
}

// grubBlock is one open "if" or "menuentry".
type grubBlock struct {
	isIf   bool
	active bool // statements run now
	taken  bool // a branch of this "if" was already run
	outer  bool // the block around was active
}

// maxVar is the longest value of a variable, in bytes. The kernel takes 4 KiB of
// arguments (COMMAND_LINE_SIZE is 2 KiB on x86); without a bound a short file
// could double a value until memory is full.
const maxVar = 16 << 10

// runGRUB returns the first kernel a configuration starts.
func runGRUB(cfg string, exists func(string) bool, read func(string) (string, error)) (kernelEntry, error) {
	g := &grub{exists: exists, read: read, vars: map[string]string{"root": "hd0"}}
	if err := g.run(cfg); err != nil {
		return kernelEntry{}, fmt.Errorf("grub: %w", err)
	}
	if g.entry == nil {
		return kernelEntry{}, fmt.Errorf("grub: the configuration starts no kernel")
	}
	return *g.entry, nil
}

func (g *grub) run(cfg string) error {
	if g.depth++; g.depth > 8 {
		return fmt.Errorf("source: more than 8 files deep")
	}
	defer func() { g.depth-- }()
	cfg = strings.ReplaceAll(cfg, "\\\n", " ")
	for _, line := range strings.Split(cfg, "\n") {
		for _, st := range splitStatements(line) {
			if err := g.statement(st); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *grub) active() bool {
	return len(g.blocks) == 0 || g.blocks[len(g.blocks)-1].active
}

func (g *grub) statement(st string) error {
	w := g.words(st)
	if len(w) > 0 && (w[0] == "then" || w[0] == "else" && len(w) > 1) {
		if w[0] == "else" {
			g.otherwise(true)
		}
		w = w[1:]
	}
	if len(w) == 0 {
		return nil
	}
	switch w[0] {
	case "if":
		on := g.active() && g.test(w[1:])
		g.blocks = append(g.blocks, grubBlock{isIf: true, active: on, taken: on, outer: g.active()})
	case "elif":
		g.otherwise(g.test(w[1:]))
	case "else":
		g.otherwise(true)
	case "fi", "}":
		if len(g.blocks) == 0 {
			return fmt.Errorf("%q closes nothing", w[0])
		}
		g.blocks = g.blocks[:len(g.blocks)-1]
	case "menuentry", "submenu":
		// No one is at the keyboard: the first entry is the one started.
		g.blocks = append(g.blocks, grubBlock{active: g.active() && g.entry == nil, outer: g.active()})
	default:
		if g.active() {
			return g.command(w)
		}
	}
	return nil
}

func (g *grub) otherwise(cond bool) {
	if len(g.blocks) == 0 {
		return
	}
	b := &g.blocks[len(g.blocks)-1]
	b.active = b.isIf && b.outer && !b.taken && cond
	b.taken = b.taken || b.active
}

func (g *grub) command(w []string) error {
	switch w[0] {
	case "set":
		k, v, ok := strings.Cut(strings.Join(w[1:], " "), "=")
		if len(v) > maxVar {
			return fmt.Errorf("set %.40s: value of %d bytes, more than the %d it may have", k, len(v), maxVar)
		}
		if ok {
			g.vars[k] = v
		}
	case "source", ".", "configfile":
		if len(w) < 2 || !g.exists(stripDevice(w[1])) {
			return nil
		}
		text, err := g.read(stripDevice(w[1]))
		if err != nil {
			return fmt.Errorf("source %s: %w", w[1], err)
		}
		return g.run(text)
	case "linux", "linuxefi", "linux16":
		if len(w) < 2 || g.entry != nil {
			return nil
		}
		g.entry = &kernelEntry{Kernel: stripDevice(w[1])}
		for _, a := range w[2:] {
			g.entry.Args = append(g.entry.Args, strings.Fields(a)...)
		}
	}
	return nil
}

func (g *grub) test(w []string) bool {
	if len(w) > 0 && (w[0] == "[" || w[0] == "test") {
		w = w[1:]
	}
	if len(w) > 0 && w[len(w)-1] == "]" {
		w = w[:len(w)-1]
	}
	switch {
	case len(w) > 1 && w[0] == "!":
		return !g.test(w[1:])
	case len(w) == 2 && (w[0] == "-f" || w[0] == "-e" || w[0] == "-s"):
		return g.exists(stripDevice(w[1]))
	case len(w) == 2 && w[0] == "-n":
		return w[1] != ""
	case len(w) == 2 && w[0] == "-z":
		return w[1] == ""
	case len(w) == 3 && (w[1] == "=" || w[1] == "=="):
		return w[0] == w[2]
	case len(w) == 3 && w[1] == "!=":
		return w[0] != w[2]
	}
	return false
}

// words splits a statement as a shell would, quotes and variables included.
func (g *grub) words(st string) []string {
	var out []string
	var cur strings.Builder
	started := false
	quote := byte(0)
	for i := 0; i < len(st); i++ {
		c := st[i]
		switch {
		case c == '#' && quote == 0 && !started:
			return out
		case quote == 0 && (c == ' ' || c == '\t' || c == '\r'):
			if started {
				out = append(out, cur.String())
				cur.Reset()
				started = false
			}
		case quote == 0 && (c == '"' || c == '\''):
			quote, started = c, true
		case c == quote && quote != 0:
			quote = 0
		case c == '\\' && quote != '\'' && i+1 < len(st):
			i++
			cur.WriteByte(st[i])
			started = true
		case c == '$' && quote != '\'':
			name, n := varName(st[i+1:])
			cur.WriteString(g.vars[name])
			i += n
			started = started || quote != 0 || g.vars[name] != ""
		default:
			cur.WriteByte(c)
			started = true
		}
	}
	if started {
		out = append(out, cur.String())
	}
	return out
}

func varName(s string) (name string, length int) {
	if strings.HasPrefix(s, "{") {
		if end := strings.IndexByte(s, '}'); end > 0 {
			return s[1:end], end + 1
		}
	}
	n := 0
	for n < len(s) && (s[n] == '_' || s[n] >= '0' && s[n] <= '9' || s[n] >= 'A' && s[n] <= 'Z' || s[n] >= 'a' && s[n] <= 'z') {
		n++
	}
	return s[:n], n
}

// splitStatements cuts a line at semicolons outside quotes and before an
// opening brace's body.
func splitStatements(line string) []string {
	var out []string
	quote, from := byte(0), 0
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '#' && (i == 0 || line[i-1] == ' ' || line[i-1] == '\t'):
			return append(out, line[from:i])
		case c == ';':
			out, from = append(out, line[from:i]), i+1
		}
	}
	return append(out, line[from:])
}

// stripDevice turns "(hd0,gpt3)/grub" into "/grub".
func stripDevice(p string) string {
	if strings.HasPrefix(p, "(") {
		if _, rest, ok := strings.Cut(p, ")"); ok {
			return rest
		}
	}
	return p
}

// isolinuxEntry returns the kernel of an isolinux.cfg's first label, which is
// the one started when no one is at the keyboard.
func isolinuxEntry(cfg string) (kernelEntry, error) {
	var e kernelEntry
	for _, line := range strings.Split(cfg, "\n") {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch strings.ToLower(f[0]) {
		case "kernel", "linux":
			e.Kernel = f[1]
		case "append":
			for _, a := range f[1:] {
				if !strings.HasPrefix(a, "initrd=") {
					e.Args = append(e.Args, a)
				}
			}
			if e.Kernel != "" {
				return e, nil
			}
		}
	}
	if e.Kernel == "" {
		return e, fmt.Errorf("isolinux: the configuration starts no kernel")
	}
	return e, nil
}
