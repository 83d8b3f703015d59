package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/site"
	"metalrise.dev/provision"
)

// docsCommand writes the pages that are made from the code. A test fails when
// they differ from the ones in docs.
func docsCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:    "docs FOLDER",
		Short:  "Write the documents that are made from the code",
		Hidden: true,
		Args:   usage(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			for name, text := range documents() {
				if err := os.WriteFile(filepath.Join(args[0], name), []byte(text), 0o644); err != nil {
					return fmt.Errorf("write document: %w", err)
				}
			}
			return nil
		},
	}
}

func documents() map[string]string {
	return map[string]string{"errors.md": errorsPage(), "platform.md": platformPage(), "states.md": provision.StatesPage(), "site.md": site.Markdown(),
		"inspect.schema.json": inspectionSchema()}
}

const madeFromCode = "<!-- Made from the code by `make docs`. Change the code, not this page. -->\n\n"

func errorsPage() string {
	var b strings.Builder
	b.WriteString("# Codes of errors and findings\n\n" + madeFromCode)
	b.WriteString("Every fault and finding has a code that never changes its meaning. `metalrise explain CODE` shows the same page offline.\n")
	for _, p := range fleet.CodePages() {
		fmt.Fprintf(&b, "\n## %s: %s\n\n%s\n\n**What to do:** %s\n", p.Code, p.Title, p.Why, p.Remedy)
	}
	return b.String()
}
