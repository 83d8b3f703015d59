package redfish

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// registry is the message registry the ids below are from (DSP8011).
const registry = "Base.1.18."

// problem is an error answer: a status and one message.
type problem struct {
	status     int
	id         string // without the registry
	text       string
	remedy     string
	args       []string
	related    []string // JSON pointers into the request
	retryAfter time.Duration
	allow      string // Allow header, with 405
}

func (p *problem) Error() string { return fmt.Sprintf("%s (%s)", p.text, p.id) }

func (p *problem) message() object {
	m := object{
		"@odata.type":     "#Message.v1_1_2.Message",
		"MessageId":       registry + p.id,
		"Message":         p.text,
		"MessageArgs":     nonNil(p.args),
		"MessageSeverity": "Critical",
		"Severity":        "Critical",
		"Resolution":      p.remedy,
	}
	if len(p.related) > 0 {
		m["RelatedProperties"] = p.related
	}
	return m
}

// body is the error body of DSP0266 (Error responses).
func (p *problem) body() object {
	return object{"error": object{
		"code":                  registry + p.id,
		"message":               p.text,
		"@Message.ExtendedInfo": []object{p.message()},
	}}
}

func nonNil(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func sortedKeys(m object) []string { return slices.Sorted(maps.Keys(m)) }

func pointer(path string) []string { return []string{"#/" + path} }

func show(v any) string {
	s := fmt.Sprintf("%v", v)
	if len(s) > 100 {
		s = s[:100] + "…"
	}
	return s
}

func notFound(path string) *problem {
	return &problem{status: http.StatusNotFound, id: "ResourceMissingAtURI", args: []string{path},
		text: "There is no resource at " + path + ".", remedy: "Follow the links from the service root."}
}

func notAllowed(method, allow string) *problem {
	return &problem{status: http.StatusMethodNotAllowed, id: "OperationNotAllowed", allow: allow,
		text: "This resource does not take " + method + "; it takes " + allow + ".", remedy: "Use one of the methods of the Allow header."}
}

func noSession() *problem {
	return &problem{status: http.StatusUnauthorized, id: "NoValidSession",
		text: "There is no valid session or login with this request.", remedy: "Create a session, or send the login with the request."}
}

func loginRefused(path string) *problem {
	return &problem{status: http.StatusUnauthorized, id: "ResourceAtUriUnauthorized", args: []string{path, "login refused"},
		text: "The login was refused.", remedy: "Check user name and password; after several wrong ones the account is locked for a while."}
}

func tooManySessions() *problem {
	return &problem{status: http.StatusServiceUnavailable, id: "SessionLimitExceeded",
		text: "The greatest number of sessions is open.", remedy: "Close sessions that are not needed, then try again."}
}

func busyFor(d time.Duration) *problem {
	return &problem{status: http.StatusServiceUnavailable, id: "ServiceTemporarilyUnavailable", retryAfter: d,
		args: []string{fmt.Sprint(int(d.Seconds()))}, text: fmt.Sprintf("The service is busy. Try again in %d seconds.", int(d.Seconds())),
		remedy: "Wait as long as Retry-After says."}
}

func shuttingDown() *problem {
	return &problem{status: http.StatusServiceUnavailable, id: "ServiceShuttingDown",
		text: "The lab is shutting this BMC down.", remedy: "Start the lab again."}
}

func malformed(why string) *problem {
	return &problem{status: http.StatusBadRequest, id: "MalformedJSON",
		text: "The request body is not a JSON object: " + why + ".", remedy: "Send one well-formed JSON object."}
}

func tooLarge() *problem {
	return &problem{status: http.StatusRequestEntityTooLarge, id: "PayloadTooLarge",
		text: fmt.Sprintf("The request body is larger than %d bytes.", maxBody), remedy: "Send less."}
}

func wrongMediaType(got string) *problem {
	return &problem{status: http.StatusUnsupportedMediaType, id: "UnsupportedMediaType", args: []string{got},
		text: fmt.Sprintf("The content type %q is not taken.", show(got)), remedy: "Send application/json."}
}

func notAcceptable(accept string) *problem {
	return &problem{status: http.StatusNotAcceptable, id: "HeaderInvalid", args: []string{"Accept: " + show(accept)},
		text: "Only application/json is served.", remedy: "Accept application/json."}
}

func queryUnsupported(what string) *problem {
	return &problem{status: http.StatusNotImplemented, id: "QueryNotSupported", args: []string{show(what)},
		text: "The query parameter " + show(what) + " is not supported.", remedy: "Leave it out; see ProtocolFeaturesSupported."}
}

func queryInvalid(name, value string) *problem {
	return &problem{status: http.StatusBadRequest, id: "QueryParameterValueFormatError", args: []string{show(value), name},
		text: fmt.Sprintf("The value %q of the query parameter %s cannot be used.", show(value), name), remedy: "Correct the query."}
}

func preconditionFailed() *problem {
	return &problem{status: http.StatusPreconditionFailed, id: "PreconditionFailed",
		text: "The resource changed: its ETag is not the one of If-Match.", remedy: "Read it again and repeat the change."}
}

func preconditionRequired() *problem {
	return &problem{status: http.StatusPreconditionRequired, id: "PreconditionRequired",
		text: "A change must name the version it is based on.", remedy: "Send If-Match with the ETag of the resource."}
}

func noOperation() *problem {
	return &problem{status: http.StatusBadRequest, id: "NoOperation", text: "The request changes nothing.", remedy: "Name the properties to change."}
}

func propertyUnknown(at string) *problem {
	return &problem{status: http.StatusBadRequest, id: "PropertyUnknown", args: []string{at}, related: pointer(at),
		text: "The property " + show(at) + " is not known here.", remedy: "Leave it out."}
}

func propertyNotWritable(at string) *problem {
	return &problem{status: http.StatusBadRequest, id: "PropertyNotWritable", args: []string{at}, related: pointer(at),
		text: "The property " + show(at) + " cannot be changed.", remedy: "Leave it out."}
}

func propertyValueTypeError(at string, v any) *problem {
	return &problem{status: http.StatusBadRequest, id: "PropertyValueTypeError", args: []string{show(v), at}, related: pointer(at),
		text: "The value of " + show(at) + " is of the wrong type.", remedy: "Use the type the schema names."}
}

func propertyValueNotInList(at string, v any) *problem {
	return &problem{status: http.StatusBadRequest, id: "PropertyValueNotInList", args: []string{show(v), at}, related: pointer(at),
		text: fmt.Sprintf("The value %q is not one of those %s takes.", show(v), at), remedy: "Take one of the allowable values of the resource."}
}

func propertyMissing(at string) *problem {
	return &problem{status: http.StatusBadRequest, id: "PropertyMissing", args: []string{at}, related: pointer(at),
		text: "The property " + at + " is needed.", remedy: "Add it."}
}

func actionParameterMissing(action, param string) *problem {
	return &problem{status: http.StatusBadRequest, id: "ActionParameterMissing", args: []string{action, param}, related: pointer(param),
		text: "The action " + action + " needs the parameter " + param + ".", remedy: "Add it."}
}

func actionParameterUnknown(action, param string) *problem {
	return &problem{status: http.StatusBadRequest, id: "ActionParameterUnknown", args: []string{action, show(param)}, related: pointer(param),
		text: "The action " + action + " has no parameter " + show(param) + ".", remedy: "Leave it out."}
}

func actionParameterTypeError(action, param string, v any) *problem {
	return &problem{status: http.StatusBadRequest, id: "ActionParameterValueTypeError", args: []string{show(v), param, action},
		related: pointer(param), text: "The parameter " + param + " of " + action + " is of the wrong type.", remedy: "Use the type the schema names."}
}

func actionParameterFormat(action, param, v, why string) *problem {
	return &problem{status: http.StatusBadRequest, id: "ActionParameterValueFormatError", args: []string{show(v), param, action},
		related: pointer(param), text: "The parameter " + param + " of " + action + " cannot be used: " + why + ".", remedy: "Correct it."}
}

func actionParameterValueNotInList(param string, v any, action string) *problem {
	return &problem{status: http.StatusBadRequest, id: "ActionParameterValueNotInList", args: []string{show(v), param, action},
		related: pointer(param), text: fmt.Sprintf("The value %q is not one of those %s of %s takes.", show(v), param, action),
		remedy: "Take one of the allowable values of the action."}
}

func actionNotNow(action, param, value, why string) *problem {
	return &problem{status: http.StatusConflict, id: "ActionParameterValueConflict", args: []string{param, value},
		related: pointer(param), text: fmt.Sprintf("%s with %s %s cannot be done: %s.", action, param, value, why),
		remedy: "Read the resource and decide again."}
}

func inUse(what string) *problem {
	return &problem{status: http.StatusConflict, id: "ResourceInUse", text: what, remedy: "Free it, then try again."}
}

func internal(why string) *problem {
	return &problem{status: http.StatusInternalServerError, id: "InternalError", text: why, remedy: "Try again; then reset the BMC."}
}

// imageUnreachable is every way in which an image could not be fetched.
func imageUnreachable(id, image, why string) *problem {
	return &problem{status: http.StatusBadRequest, id: id, args: []string{show(image)}, related: pointer("Image"),
		text: "The image could not be fetched: " + strings.TrimSuffix(why, ".") + ".", remedy: "Check the address and that the BMC can reach it."}
}
