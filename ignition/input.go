package ignition

import (
	"fmt"
	"strings"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// Spec is a version of the Ignition config specification.
type Spec string

const (
	Spec34 Spec = "3.4.0" // read by every supported release; the default
	Spec35 Spec = "3.5.0" // for releases that want it
)

// Artefact is a file that metalrise serves to machines.
type Artefact struct {
	Path   string // below the ticket's URL: "/v1/artefacts/agent"
	SHA256 string // lower-case hexadecimal
	Bytes  int64  // exact size
}

// LiveInput is all that the live system's config is made from.
type LiveInput struct {
	Assignment fleet.Assignment
	Ticket     callhome.Ticket // of stage live
	Agent      Artefact
	Spec       Spec // "" is Spec34
}

// InstalledInput is all that the installed system's config is made from.
type InstalledInput struct {
	Assignment fleet.Assignment
	// Ticket is of stage installed. Without one the system neither fetches the
	// agent nor reports, and Agent is not looked at.
	Ticket *callhome.Ticket
	Agent  Artefact
	Site   string // name; "" is left out
	Spec   Spec   // "" is Spec34
	// Medium is the prepared medium that the system was installed from, nil where
	// an engine elsewhere installs it.
	Medium *Medium
}

// Problem is one thing that is wrong with an input or a config.
type Problem struct {
	Path string // "assignment.network.dns[1]", or "$.storage.files.0.path" of a config
	Text string
}

// Invalid is every problem of one input or config, in the order of its fields.
type Invalid struct {
	Problems []Problem
}

func (e *Invalid) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.Path + ": " + p.Text
	}
	return strings.Join(lines, "; ")
}

// problems collects what is wrong.
type problems struct{ list []Problem }

func (p *problems) add(path, format string, args ...any) {
	p.list = append(p.list, Problem{Path: path, Text: fmt.Sprintf(format, args...)})
}

// err gives all problems as one fault, nil when there are none.
func (p *problems) err(code fleet.Code, format string, args ...any) error {
	if len(p.list) == 0 {
		return nil
	}
	return fleet.NewFault(code, fleet.Invalid, &Invalid{Problems: p.list}, format, args...)
}

// quote shows a value from outside in an error text, kept short.
func quote(s string) string {
	const most = 60
	if len(s) > most {
		return fmt.Sprintf("%q…", s[:most])
	}
	return fmt.Sprintf("%q", s)
}
