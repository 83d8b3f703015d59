package bmc

import (
	"net/url"
	"strings"
)

const maxVariants = 7 // of one insert request; four are enough for every BMC known

// spareBodies are tried where the BMC's complaint names no property.
func spareBodies(u *url.URL) []map[string]any {
	image, scheme := u.String(), strings.ToUpper(u.Scheme)
	return []map[string]any{
		{"Image": image},
		{"Image": image, "TransferProtocolType": scheme},
		{"Image": image, "TransferProtocolType": scheme, "TransferMethod": "Stream", "Inserted": true, "WriteProtected": true},
		{"Image": image, "TransferProtocolType": scheme, "TransferMethod": "Stream", "Inserted": true, "WriteProtected": true, "UserName": "", "Password": ""},
	}
}

// insertKeys are what an insert request may hold besides the image, with the
// value to give where the BMC misses it.
func insertKeys(u *url.URL) map[string]any {
	return map[string]any{
		"TransferProtocolType": strings.ToUpper(u.Scheme), "TransferMethod": "Stream",
		"Inserted": true, "WriteProtected": true, "UserName": "", "Password": "", "MediaType": "CD",
	}
}

// amend drops what the BMC says it does not know and adds what it says it
// misses, both by the message keys of the Redfish base registry. A complaint
// without arguments names the property in its text.
func amend(body map[string]any, r *refusal, u *url.URL) map[string]any {
	out := map[string]any{}
	for k, v := range body {
		out[k] = v
	}
	if r == nil {
		return out
	}
	offer := insertKeys(u)
	for _, m := range r.messages {
		for _, name := range named(m, offer) {
			switch m.key() {
			case "PropertyUnknown", "PropertyNotWritable", "ActionParameterUnknown", "ActionParameterNotSupported",
				"ActionParameterValueError", "ActionParameterValueTypeError", "PropertyValueError":
				delete(out, name)
			case "PropertyMissing", "ActionParameterMissing", "CreateFailedMissingReqProperties":
				out[name] = offer[name]
			}
		}
	}
	return out
}

// named lists the properties that a message is about.
func named(m message, known map[string]any) []string {
	var out []string
	for _, arg := range m.args {
		name := arg[strings.LastIndexAny(arg, "/.#")+1:]
		if _, ok := known[name]; ok {
			out = append(out, name)
		}
	}
	if len(m.args) > 0 {
		return out
	}
	for name := range known {
		if strings.Contains(m.text, name) {
			out = append(out, name)
		}
	}
	return out
}

func keysOf(body map[string]any) string {
	var b strings.Builder
	for _, k := range []string{"Image", "Inserted", "WriteProtected", "TransferProtocolType", "TransferMethod", "UserName", "Password", "MediaType"} {
		if _, ok := body[k]; ok {
			b.WriteString(k + " ")
		}
	}
	return b.String()
}
