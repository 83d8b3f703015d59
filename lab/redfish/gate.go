package redfish

import (
	"net/http"
)

const pathAccount = pathRoot + "/AccountService/Accounts/1"

// notReady is what a BMC says that still starts, in the words of Dell's.
func (b *BMC) notReady() *problem {
	p := &problem{text: "The controller is starting. Retry in 30 seconds.", remedy: "Wait, then ask again."}
	switch {
	case b.is(NotReadySYS518):
		p.status, p.id = http.StatusServiceUnavailable, "SYS518"
	case b.is(NotReadySWC0700):
		p.status, p.id = http.StatusBadRequest, "SWC0700"
	case b.is(NotReadyRAC0508):
		p.status, p.id = http.StatusInternalServerError, "RAC0508"
	default:
		return nil
	}
	return p
}

// gatekeeper judges a session POST before the session service sees it.
func (b *BMC) gatekeeper(r *http.Request) *problem {
	_, _, basic := r.BasicAuth()
	switch {
	case b.is(NoSessions):
		return notFound(pathSessions)
	case r.Header.Get("Authorization") != "" && b.is(LoginRefusesAuth):
		return &problem{status: http.StatusUnsupportedMediaType, id: "HeaderInvalid", args: []string{"Authorization"},
			text: "The header Authorization is not taken here.", remedy: "Leave it out."}
	case !basic && b.is(LoginWantsBasic):
		return noSession()
	}
	return nil
}

// wantsDomain asks for the field that some makers add to the login.
func (b *BMC) wantsDomain(in object) *problem {
	if !b.is(LoginWantsDomain) {
		return nil
	}
	oem, _ := in["Oem"].(object)
	maker, _ := oem["Huawei"].(object)
	if domain, isText := maker["Domain"].(string); !isText || domain == "" {
		return propertyMissing("Oem/Huawei/Domain")
	}
	return nil
}

// mustChange refuses everything but the account to an account whose password
// must be changed first.
func (b *BMC) mustChange(r *http.Request, at string) *problem {
	if at == pathAccount || r.Method == http.MethodDelete || !b.is(PasswordMustChange) || b.accounts.isChanged() {
		return nil
	}
	return &problem{status: http.StatusForbidden, id: "PasswordChangeRequired", args: []string{pathAccount},
		text: "The password of this account must be changed before anything else.", remedy: "Change it by PATCH of " + pathAccount + "."}
}

// tooMany is the answer to a login too many, in the words of this BMC.
func (b *BMC) tooMany() *problem {
	p := tooManySessions()
	switch {
	case b.is(LimitSaidByDell):
		p.id = "RAC0218"
	case b.is(LimitSaidAs400):
		p.status, p.id = http.StatusBadRequest, "CreateLimitReachedForResource"
	}
	return p
}

// patchAccount changes the password, and nothing else.
func (b *BMC) patchAccount(in object) *problem {
	for _, key := range sortedKeys(in) {
		if key != "Password" {
			return propertyNotWritable(key)
		}
	}
	text, isText := in["Password"].(string)
	if !isText || text == "" {
		return propertyValueTypeError("Password", "***")
	}
	b.accounts.change(text)
	return nil
}
