package ignition

import (
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/coreos/ignition/v2/config/util"
	"github.com/coreos/ignition/v2/config/v3_4"
	"github.com/coreos/ignition/v2/config/v3_4/types"
	"github.com/coreos/ignition/v2/config/v3_5"
	"github.com/coreos/ignition/v2/config/v3_5/translate"
	"github.com/coreos/vcontext/report"

	"metalrise.dev/fleet"
)

// document gathers a config part by part.
type document struct {
	config types.Config
}

func newDocument() *document {
	d := &document{}
	d.config.Ignition.Version = string(Spec34)
	return d
}

// file adds a file that belongs to root. It replaces one that the image may
// have in that place.
func (d *document) file(path string, mode int, text string) {
	// A data URL with nothing but the text (RFC 2397) stays readable for people
	// who look into a config; path escaping also escapes what separates its parts.
	source := "data:," + url.PathEscape(text)
	d.config.Storage.Files = append(d.config.Storage.Files, types.File{
		Node:          types.Node{Path: path, Overwrite: util.BoolToPtr(true)},
		FileEmbedded1: types.FileEmbedded1{Mode: util.IntToPtr(mode), Contents: types.Resource{Source: util.StrToPtr(source)}},
	})
}

// unit adds a unit: an enabled one starts at boot, another one when a unit asks
// for it.
func (d *document) unit(name, text string, enabled bool) {
	u := types.Unit{Name: name, Contents: util.StrToPtr(text)}
	if enabled {
		u.Enabled = util.BoolToPtr(true)
	}
	d.config.Systemd.Units = append(d.config.Systemd.Units, u)
}

// render writes the config as JSON of the wanted spec and has Ignition's own
// parser and validator of that spec look at exactly those bytes.
func (d *document) render(spec Spec) ([]byte, error) {
	var versioned any = d.config
	parse := func(raw []byte) (report.Report, error) {
		_, r, err := v3_4.Parse(raw)
		return r, err
	}
	if spec == Spec35 {
		versioned = translate.Translate(d.config)
		parse = func(raw []byte) (report.Report, error) {
			_, r, err := v3_5.Parse(raw)
			return r, err
		}
	}
	raw, err := compactJSON(versioned)
	if err != nil {
		return nil, fmt.Errorf("write ignition config: %w", err)
	}
	r, err := parse(raw)
	var p problems
	for _, e := range r.Entries {
		p.add(e.Context.String(), "%s: %s", e.Kind.String(), e.Message)
	}
	if err != nil && len(p.list) == 0 {
		p.add("$", "%v", err)
	}
	// An input that passed the checks and still gives such a config is a fault of
	// this package: no change of the site file could be asked for.
	if err := p.err(fleet.CodeUnexpected, "ignition's validator refuses the config"); err != nil {
		return nil, err
	}
	return raw, nil
}

// compactJSON is JSON without the empty objects and lists that the config types
// leave behind: they say nothing, and the embed area of a medium is small.
func compactJSON(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var tree any
	if err := json.Unmarshal(raw, &tree); err != nil {
		return nil, err
	}
	return json.Marshal(prune(tree))
}

// prune drops null, empty objects and empty lists below v. It gives nil when
// nothing is left. Strings, numbers and booleans always stay.
func prune(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, below := range v {
			if below = prune(below); below == nil {
				delete(v, key)
			} else {
				v[key] = below
			}
		}
		if len(v) == 0 {
			return nil
		}
	case []any:
		for i := range v {
			v[i] = prune(v[i])
		}
		if len(v) == 0 {
			return nil
		}
	}
	return v
}
