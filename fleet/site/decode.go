package site

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"metalrise.dev/fleet"
)

// decoder fills Go values from nodes and collects every fault on the way.
type decoder struct {
	name     string
	table    map[string]field
	findings []fleet.Finding
}

// decode reads the document as typed, without defaults.
func (f *File) decode() (fleet.Site, []fleet.Finding) {
	d := &decoder{name: f.name, table: fieldTable()}
	var s fleet.Site
	root := f.doc.Content[0]
	d.object(root, reflect.ValueOf(&s).Elem(), "", "")
	d.together(s, root)
	if len(s.Rules) > 0 && lookup(root, "bmcs") == nil { // all its servers are started by somebody
		d.findings = slices.DeleteFunc(d.findings, func(f fleet.Finding) bool { return f.Path == "bmcs" })
	}
	return s, d.findings
}

func (d *decoder) fault(n *yaml.Node, path, text, remedy string) {
	d.findings = append(d.findings, fault(d.name, n.Line, path, text, remedy))
}

// value reads one node. schema is the path in the table, path the one for people.
func (d *decoder) value(n *yaml.Node, v reflect.Value, schema, path string) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		d.fault(n, path, "the field has no value", "Give it one, or remove the line.")
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[fleet.SecretRef]() {
			d.secret(n, v, schema, path)
			return
		}
		d.object(n, v, schema, path)
	case reflect.Slice:
		d.list(n, v, schema, path)
	case reflect.Map:
		d.pairs(n, v, schema, path)
	default:
		d.scalar(n, v, schema, path)
	}
}

// object reads a mapping into a struct.
func (d *decoder) object(n *yaml.Node, v reflect.Value, schema, path string) {
	if n.Kind != yaml.MappingNode {
		d.fault(n, path, "here belong fields, not a single value or list", d.remedy(schema))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := join(path, key.Value)
		index, ok := d.fieldIndex(v.Type(), schema, key.Value)
		switch {
		case !ok:
			d.fault(key, at, fmt.Sprintf("there is no field %q here", key.Value), d.suggest(v.Type(), schema, key.Value))
		case seen[key.Value]:
			d.fault(key, at, "the field appears twice", "Remove one of the two.")
		default:
			d.value(value, v.Field(index), join(schema, key.Value), at)
		}
		seen[key.Value] = true
	}
	for _, name := range d.names(v.Type(), schema) {
		if d.table[join(schema, name)].required && !seen[name] {
			d.fault(n, join(path, name), "the field is missing", "Add it: "+d.table[join(schema, name)].text+" "+d.remedy(join(schema, name)))
		}
	}
}

// secret reads where a secret is. What stands there is never shown.
func (d *decoder) secret(n *yaml.Node, v reflect.Value, schema, path string) {
	if n.Kind == yaml.ScalarNode {
		d.fault(n, path, "a secret must not be in the site file", fmt.Sprintf("Put it into a file of mode 0600 and write `%s: {file: NAME}`, or `{env: NAME}` for an environment variable, or `{vault: NAME}` for an entry of an encrypted file. If this file was shared, change the secret.", lastOf(path)))
		return
	}
	for i := 0; n.Kind == yaml.MappingNode && i < len(n.Content); i += 2 {
		// The key is not shown: in `password: {hunter2}` it is the secret.
		if _, ok := d.fieldIndex(v.Type(), schema, n.Content[i].Value); !ok {
			d.fault(n.Content[i], path, "only file, env, vault and prompt can say where a secret is", "Write `{file: NAME}`, `{env: NAME}`, `{vault: NAME}` or `{prompt: TEXT}`. If a secret stands here, take it out and change it.")
			return
		}
	}
	before := len(d.findings)
	d.object(n, v, schema, path)
	ref := v.Interface().(fleet.SecretRef)
	if n.Kind == yaml.MappingNode && len(d.findings) == before && places(ref) != 1 {
		d.fault(n, path, "exactly one of file, env, vault and prompt says where the secret is", "Keep one of them.")
	}
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, schema, path string) {
	if n.Kind != yaml.SequenceNode {
		d.fault(n, path, "here belongs a list", d.remedy(schema))
		return
	}
	f := d.table[schema]
	if len(n.Content) < f.min {
		d.fault(n, path, "the list is empty", d.remedy(schema))
	}
	if f.max > 0 && len(n.Content) > f.max {
		d.fault(n, path, fmt.Sprintf("the list has %d entries, at most %d are allowed", len(n.Content), f.max), "Shorten it.")
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	inner := schema
	if v.Type().Elem().Kind() == reflect.Struct {
		inner += "[]"
	}
	for i, c := range n.Content {
		d.value(c, out.Index(i), inner, fmt.Sprintf("%s[%d]", path, i))
	}
	v.Set(out)
}

// pairs reads a mapping with free keys.
func (d *decoder) pairs(n *yaml.Node, v reflect.Value, schema, path string) {
	if n.Kind != yaml.MappingNode {
		d.fault(n, path, "here belong pairs of name and value", d.remedy(schema))
		return
	}
	out := reflect.MakeMap(v.Type())
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i].Value
		at := fmt.Sprintf("%s[%q]", path, key)
		item := reflect.New(v.Type().Elem()).Elem()
		if out.MapIndex(reflect.ValueOf(key)).IsValid() {
			d.fault(n.Content[i], at, "the name appears twice", "Remove one of the two.")
		}
		if _, err := fleet.ParseAddressRange(key); err != nil || !strings.Contains(key, ":") {
			d.fault(n.Content[i], at, fmt.Sprintf("%q is no BMC address with port", key), "Write it like \"10.0.9.11:443\", in quotes.")
		}
		d.value(n.Content[i+1], item, schema, at)
		out.SetMapIndex(reflect.ValueOf(key), item)
	}
	v.Set(out)
}

// scalar reads text, a whole number or a yes-or-no. Text is taken as typed, so
// that a serial of digits needs no quotes.
func (d *decoder) scalar(n *yaml.Node, v reflect.Value, schema, path string) {
	f := d.table[schema]
	if n.Kind != yaml.ScalarNode {
		d.fault(n, path, "here belongs a single value", d.remedy(schema))
		return
	}
	if len(f.enum) > 0 && !contains(f.enum, n.Value) {
		d.fault(n, path, fmt.Sprintf("%q is not one of the allowed values", n.Value), d.remedy(schema)+nearest(n.Value, f.enum))
		return
	}
	switch v.Kind() {
	case reflect.String:
		switch {
		case strings.TrimSpace(n.Value) == "":
			d.fault(n, path, "the field is empty", "Give it a value, or remove the line.")
			return
		case f.check != nil:
			if err := f.check(n.Value); err != nil {
				d.fault(n, path, err.Error(), d.remedy(schema))
				return
			}
		}
		v.SetString(n.Value)
	case reflect.Int:
		i, err := strconv.Atoi(n.Value)
		switch {
		case err != nil || n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
			d.fault(n, path, fmt.Sprintf("%q is no whole number", n.Value), d.remedy(schema))
			return
		case f.max > 0 && (i < f.min || i > f.max):
			d.fault(n, path, fmt.Sprintf("%d is not between %d and %d", i, f.min, f.max), d.remedy(schema))
			return
		}
		v.SetInt(int64(i))
	case reflect.Bool:
		if n.Tag != "!!bool" {
			d.fault(n, path, fmt.Sprintf("%q is neither true nor false", n.Value), "Write true or false.")
			return
		}
		v.SetBool(strings.EqualFold(n.Value, "true"))
	}
}

// together checks what no single field can show.
func (d *decoder) together(s fleet.Site, root *yaml.Node) {
	d.bmcs(s.BMCs, lookup(root, "bmcs"))
	d.cluster(s.Cluster, lookup(root, "cluster"))
	d.platform(s.Platform, lookup(root, "platform"))
	d.rules(s.Rules, lookup(root, "rules"))
	list := lookup(root, "servers")
	first := map[string]int{}
	for i, o := range s.Servers {
		n, path := list.Content[i], fmt.Sprintf("servers[%d]", i)
		if n.Kind != yaml.MappingNode {
			continue
		}
		if o.Serial == "" && o.UUID == "" {
			d.fault(n, path, "the entry does not say which server it is about", "Add serial or uuid, as `metalrise inspect` shows them.")
		}
		for _, key := range []string{"serial " + o.Serial, "UUID " + strings.ToLower(o.UUID)} {
			if strings.HasSuffix(key, " ") {
				continue
			}
			if other, ok := first[key]; ok {
				d.fault(n, path, fmt.Sprintf("%s is also named by servers[%d]", key, other), "Join the two entries into one.")
				continue
			}
			first[key] = i
		}
		if disk := lookup(n, "disk"); disk != nil && disk.Kind == yaml.MappingNode && o.Disk.WWN == "" && o.Disk.Serial == "" {
			d.fault(disk, path+".disk", "the disk is not named", "Add wwn or serial, as `metalrise inspect` shows them.")
		}
	}
}

// bmcs checks that there are BMCs and a way to log in. A field that is there
// but faulty was spoken of already.
func (d *decoder) bmcs(b fleet.BMCs, n *yaml.Node) {
	if n == nil || n.Kind != yaml.MappingNode {
		return
	}
	has := func(key string) bool { return lookup(n, key) != nil }
	if !has("addresses") && !has("import") {
		d.fault(n, "bmcs.addresses", "the field is missing", "Add it: "+d.table["bmcs.addresses"].text+" "+d.remedy("bmcs.addresses")+" Or name a CSV file under import.")
	}
	login := !has("credentials") && !has("import")
	for _, pair := range [...][2]string{{"username", "password"}, {"password", "username"}} {
		key, other := pair[0], pair[1]
		if !has(key) && (login || has(other)) {
			d.fault(n, "bmcs."+key, "the field is missing", "Add it: "+d.table["bmcs."+key].text+" "+d.remedy("bmcs."+key))
		}
	}
}

// cluster checks what fields of the cluster mean for each other.
func (d *decoder) cluster(c fleet.Cluster, n *yaml.Node) {
	if n == nil || n.Kind != yaml.MappingNode {
		return
	}
	at := func(key string) *yaml.Node { return lookup(n, key) }
	if at("vip") != nil && at("loadBalancer") != nil {
		d.fault(at("loadBalancer"), "cluster.loadBalancer", "the API is reached either at vip or at loadBalancer, not at both", "Remove one of the two.")
	}
	if at("vrrp") != nil && at("vip") == nil {
		d.fault(at("vrrp"), "cluster.vrrp", "there is no vip that this id could be for", "Add cluster.vip, or remove this line.")
	}
	switch own := c.CNI == fleet.OwnCNI; {
	case own && at("cniManifests") == nil:
		d.fault(at("cni"), "cluster.cniManifests", "the field is missing; cni: own needs it", "Add it: "+d.table["cluster.cniManifests"].text+" "+d.remedy("cluster.cniManifests"))
	case !own && at("cniManifests") != nil:
		d.fault(at("cniManifests"), "cluster.cniManifests", "the file is used only with cni: own", "Write cni: own, or remove this line.")
	}
}
