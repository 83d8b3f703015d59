package redfish

import (
	"net/http"
	"strings"
	"time"
)

// link is a reference to another resource.
func link(path string) object { return object{"@odata.id": path} }

func links(paths ...string) []object {
	out := []object{}
	for _, p := range paths {
		out = append(out, link(p))
	}
	return out
}

func ok() object { return object{"State": "Enabled", "Health": "OK"} }

// fixed is a collection whose members never change.
func fixed(kind, at, name string, members []string) node {
	return node{
		get:     func() object { return object{"@odata.id": at, "@odata.type": "#" + kind, "Name": name} },
		members: func() []string { return members },
	}
}

// static is a resource whose content never changes. build is called at every read.
func static(kind, at, id, name string, build func() object) node {
	return node{get: func() object {
		out := object{"@odata.id": at, "@odata.type": "#" + kind, "Id": id, "Name": name}
		for k, v := range build() {
			out[k] = v
		}
		return out
	}}
}

// tree makes every resource of the BMC. Paths have no trailing slash.
func (b *BMC) tree() map[string]node {
	t := map[string]node{}
	b.rootTree(t)
	b.accountTree(t)
	b.systemTree(t)
	b.storageTree(t)
	b.chassisTree(t)
	b.managerTree(t)
	if b.cfg.Personality.Media == MediaByFTS {
		b.ftsTree(t)
	}
	if b.cfg.Personality.MediaPlace != UnderManager {
		b.mediaTree(t, b.systemPath())
	}
	if b.cfg.Personality.MediaPlace != UnderSystem {
		b.mediaTree(t, b.managerPath())
	}
	return t
}

func (b *BMC) systemPath() string  { return pathRoot + "/Systems/" + b.systemID }
func (b *BMC) managerPath() string { return pathRoot + "/Managers/" + b.cfg.Personality.ManagerID }
func (b *BMC) chassisPath() string { return pathRoot + "/Chassis/" + b.cfg.Personality.ChassisID }

func (b *BMC) rootTree(t map[string]node) {
	t["/redfish"] = node{open: true, get: func() object { return object{"v1": pathRoot + "/"} }}
	root := static("ServiceRoot.v1_15_0.ServiceRoot", pathRoot+"/", "RootService", "Root Service", func() object {
		out := object{
			"RedfishVersion": "1.18.0",
			"UUID":           b.managerUUID(),
			"Vendor":         b.vendor(),
			"Product":        b.cfg.Personality.Product,
			"ProtocolFeaturesSupported": object{
				"ExpandQuery":     object{"ExpandAll": false, "Levels": true, "Links": false, "NoLinks": true, "MaxLevels": 1},
				"FilterQuery":     false,
				"SelectQuery":     false,
				"OnlyMemberQuery": false,
				"ExcerptQuery":    false,
				"TopSkipQuery":    true,
			},
			"Systems":        link(pathRoot + "/Systems"),
			"Chassis":        link(pathRoot + "/Chassis"),
			"Managers":       link(pathRoot + "/Managers"),
			"SessionService": link(pathRoot + "/SessionService"),
			"AccountService": link(pathRoot + "/AccountService"),
			"Tasks":          link(pathRoot + "/TaskService"),
			"Links":          object{"Sessions": link(pathSessions)},
		}
		if key := b.cfg.Personality.OEM; key != "" {
			out["Oem"] = object{key: object{}}
		}
		if none := b.is(NoSessions); none || b.is(NoSessionServiceLink) {
			delete(out, "SessionService")
			if none {
				delete(out, "Links")
			}
		}
		return out
	})
	root.open = true
	t[pathRoot] = root
	t[pathRoot+"/odata"] = node{open: true, get: func() object {
		var all []object
		for _, name := range []string{"Systems", "Chassis", "Managers", "SessionService", "AccountService"} {
			all = append(all, object{"name": name, "kind": "Singleton", "url": pathRoot + "/" + name})
		}
		return object{"@odata.context": pathRoot + "/$metadata", "value": all}
	}}
	tasks := pathRoot + "/TaskService"
	t[tasks] = static("TaskService.v1_2_0.TaskService", tasks, "TaskService", "Task Service", func() object {
		return object{"ServiceEnabled": true, "Status": ok(), "Tasks": link(pathTasks), "CompletedTaskOverWritePolicy": "Oldest"}
	})
	t[pathTasks] = fixed("TaskCollection.TaskCollection", pathTasks, "Tasks", nil)
	n := t[pathTasks]
	n.members = b.tasks.paths
	t[pathTasks] = n
}

func (b *BMC) accountTree(t map[string]node) {
	service := pathRoot + "/SessionService"
	sessions := static("SessionService.v1_1_9.SessionService", service, "SessionService", "Session Service", func() object {
		return object{"ServiceEnabled": true, "Status": ok(), "SessionTimeout": int(b.accounts.age().Seconds()), "Sessions": link(pathSessions)}
	})
	sessions.patch = b.patchSessionService
	t[service] = sessions
	all := fixed("SessionCollection.SessionCollection", pathSessions, "Sessions", nil)
	all.members = func() (out []string) {
		for _, s := range b.accounts.list() {
			out = append(out, pathSessions+"/"+s.id)
		}
		return out
	}
	all.post = b.createSession
	t[pathSessions] = all

	at := pathRoot + "/AccountService"
	t[at] = static("AccountService.v1_15_1.AccountService", at, "AccountService", "Account Service", func() object {
		seconds := int(b.cfg.Limits.LockoutDuration.Seconds())
		return object{
			"ServiceEnabled": true, "Status": ok(), "Accounts": link(at + "/Accounts"), "Roles": link(at + "/Roles"),
			"AccountLockoutThreshold":         max(b.cfg.Limits.LockoutThreshold, 0),
			"AccountLockoutDuration":          seconds,
			"AccountLockoutCounterResetAfter": seconds,
		}
	})
	t[at+"/Accounts"] = fixed("ManagerAccountCollection.ManagerAccountCollection", at+"/Accounts", "Accounts", []string{at + "/Accounts/1"})
	account := static("ManagerAccount.v1_12_1.ManagerAccount", at+"/Accounts/1", "1", "Account", func() object {
		return object{
			"UserName": b.accounts.userName, "Password": nil, "Enabled": true, "Locked": b.accounts.locked(),
			"PasswordChangeRequired": b.is(PasswordMustChange) && !b.accounts.isChanged(), "RoleId": "Administrator", "AccountTypes": []string{"Redfish"},
			"Links": object{"Role": link(at + "/Roles/Administrator")},
		}
	})
	account.patch = b.patchAccount
	t[at+"/Accounts/1"] = account
	t[at+"/Roles"] = fixed("RoleCollection.RoleCollection", at+"/Roles", "Roles", []string{at + "/Roles/Administrator"})
	t[at+"/Roles/Administrator"] = static("Role.v1_3_3.Role", at+"/Roles/Administrator", "Administrator", "Administrator", func() object {
		return object{"RoleId": "Administrator", "IsPredefined": true,
			"AssignedPrivileges": []string{"Login", "ConfigureManager", "ConfigureUsers", "ConfigureComponents", "ConfigureSelf"}}
	})
}

func (b *BMC) patchSessionService(in object) *problem {
	for _, key := range sortedKeys(in) {
		if key != "SessionTimeout" {
			return propertyUnknown(key)
		}
	}
	seconds, isNumber := in["SessionTimeout"].(float64)
	if !isNumber {
		return propertyValueTypeError("SessionTimeout", in["SessionTimeout"])
	}
	if seconds < 30 || seconds > 86400 { // the range of the schema
		return propertyValueNotInList("SessionTimeout", in["SessionTimeout"])
	}
	b.accounts.setAge(time.Duration(seconds) * time.Second)
	return nil
}

func (b *BMC) systemTree(t map[string]node) {
	base := pathRoot + "/Systems"
	at := b.systemPath()
	t[base] = fixed("ComputerSystemCollection.ComputerSystemCollection", base, "Systems", []string{at})
	t[at] = node{get: b.systemBody, patch: b.patchSystem}
	if way := b.cfg.Personality.BootSettings; way != "" {
		t[at+way] = node{get: func() object { return b.bootSettingsBody(at + way) }, patch: b.patchBootSettings}
	}
	if info := b.resetInfoPath(); b.has(ResetInActionInfo) {
		t[info] = static("ActionInfo.v1_4_2.ActionInfo", info, "ResetActionInfo", "Reset Action Info", func() object {
			return object{"Parameters": []object{{"Name": "ResetType", "Required": true, "DataType": "String", "AllowableValues": b.allowedResets()}}}
		})
	}
	t[at+"/Actions/ComputerSystem.Reset"] = node{post: func(_ *http.Request, in object) reply { return done(b.resetAction(in)) }}
	b.processorTree(t, at)
	b.interfaceTree(t, at)
	bios := static("Bios.v1_2_2.Bios", at+"/Bios", "Bios", "BIOS", func() object {
		return object{
			"Attributes":        copied(b.bios),
			"@Redfish.Settings": object{"@odata.type": "#Settings.v1_3_5.Settings", "SettingsObject": link(at + "/Bios/Settings"), "SupportedApplyTimes": []string{"OnReset"}},
		}
	})
	t[at+"/Bios"] = bios
	settings := static("Bios.v1_2_2.Bios", at+"/Bios/Settings", "Settings", "BIOS as of the next boot", func() object {
		return object{"Attributes": copied(b.pending)}
	})
	settings.patch = b.patchBIOS
	t[at+"/Bios/Settings"] = settings
	if b.cfg.Spec.Firmware == "uefi" {
		secure := static("SecureBoot.v1_1_2.SecureBoot", at+"/SecureBoot", "SecureBoot", "Secure Boot", func() object {
			return object{"SecureBootEnable": b.secureBoot, "SecureBootCurrentBoot": "Disabled", "SecureBootMode": "SetupMode"}
		})
		secure.patch = b.patchSecureBoot
		t[at+"/SecureBoot"] = secure
	}
}

func copied(m map[string]any) object {
	out := object{}
	for k, v := range m {
		out[k] = v
	}
	return out
}

func (b *BMC) patchBIOS(in object) *problem {
	for _, key := range sortedKeys(in) {
		if key != "Attributes" && !strings.HasPrefix(key, "@Redfish.") {
			return propertyUnknown(key)
		}
	}
	attributes, isObject := in["Attributes"].(object)
	if !isObject {
		return propertyMissing("Attributes")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.mergeBIOSLocked(attributes); p != nil {
		return p
	}
	b.saveLocked()
	return nil
}

func (b *BMC) resetAction(in object) *problem {
	const action = "ComputerSystem.Reset"
	for _, key := range sortedKeys(in) {
		if key != "ResetType" {
			return actionParameterUnknown(action, key)
		}
	}
	v, given := in["ResetType"]
	if !given {
		return actionParameterMissing(action, "ResetType")
	}
	text, isText := v.(string)
	if !isText {
		return actionParameterTypeError(action, "ResetType", v)
	}
	if p := b.refuseReset(ResetType(text)); p != nil {
		return p
	}
	return b.reset(ResetType(text))
}
