package redfish

import "slices"

// Standard follows the specification to the letter.
func Standard() Personality {
	return Personality{
		Name: "standard", ManagerID: "BMC", ChassisID: "Chassis",
		Product: "Lab BMC", Firmware: "1.4.2", Virtualization: "ProcVirtualization",
		Slots: []Slot{
			{ID: "USB1", Types: []string{"USBStick", "Floppy"}},
			{ID: "CD1", Types: []string{"CD", "DVD"}},
		},
	}
}

// Embedded has ids with dots, media under the manager only and accepts a
// repeated reset, as older controllers do.
func Embedded() Personality {
	p := Standard()
	p.Name, p.SystemID, p.ManagerID, p.ChassisID = "embedded", "System.Embedded.1", "Manager.Embedded.1", "Chassis.Embedded.1"
	p.MediaPlace, p.Repeat = UnderManager, AcceptRepeat
	p.Slots = []Slot{{ID: "RemovableDisk", Types: []string{"USBStick"}}, {ID: "CD", Types: []string{"CD", "DVD"}}}
	return p
}

// Strict wants If-Match on every change, pages its collections, inserts media by
// a task and shows media under the system only.
func Strict() Personality {
	p := Standard()
	p.Name, p.SystemID = "strict", "Self"
	p.MediaPlace, p.Match, p.Insert, p.PageSize = UnderSystem, MatchRequired, InsertTask, 2
	return p
}

// The makers' personalities below have the ids, places and habits that reports
// and recorded trees of such BMCs show, no more: texts are the lab's own.

// IDRAC9 is like Dell's: ids with dots, media under the manager, pages, sessions
// few, strong opinions on image names, settings objects.
func IDRAC9() Personality {
	p := Embedded()
	p.Name, p.Vendor, p.OEM, p.Product, p.Firmware = "idrac9", "Dell Inc.", "Dell", "Integrated Dell Remote Access Controller", "6.10.30.00"
	p.ManagerID, p.Repeat = "iDRAC.Embedded.1", RefuseRepeat
	p.ResetTypes = []ResetType{ResetOn, ResetForceOff, ResetForceRestart, ResetGracefulRestart, ResetGracefulShutdown, ResetPushPowerButton, ResetPowerCycle}
	p.Quirks = []Quirk{LimitSaidByDell, ImageWantsSuffix, NoContinuous}
	p.Slots = []Slot{{ID: "CD", Types: []string{"CD", "DVD"}}, {ID: "RemovableDisk", Types: []string{"USBStick"}}}
	return p
}

// IDRAC10 is like Dell's newer: numbered slots under the system, the override
// on the settings object.
func IDRAC10() Personality {
	p := IDRAC9()
	p.Name, p.Firmware, p.MediaPlace, p.BootSettings = "idrac10", "1.20.25.00", UnderSystem, "/Settings"
	p.Slots = []Slot{{ID: "1", Types: []string{"CD", "DVD", "USBStick"}}, {ID: "2", Types: []string{"CD", "DVD", "USBStick"}}}
	return p
}

// ILO5 is like HPE's: numbers as ids, a boot mode that is read only, bodies that
// must not be empty, no change during the self test.
func ILO5() Personality {
	p := Standard()
	p.Name, p.Vendor, p.OEM, p.Product, p.Firmware = "ilo5", "HPE", "Hpe", "iLO 5", "iLO 5 v2.96"
	p.SystemID, p.ManagerID, p.ChassisID, p.MediaPlace = "1", "1", "1", UnderManager
	p.ResetTypes = []ResetType{ResetOn, ResetForceOff, ResetGracefulShutdown, ResetForceRestart, ResetPushPowerButton, ResetGracefulRestart}
	p.Quirks = []Quirk{BootModeReadOnly, EjectWantsObject, EjectEmptyRefused, DisabledWithNone, BootLockedInPOST}
	p.Slots = []Slot{{ID: "1", Types: []string{"Floppy", "USBStick"}}, {ID: "2", Types: []string{"CD", "DVD"}}}
	return p
}

// XCC is like Lenovo's: media by PATCH, slots for uploads beside, If-Match
// needed, no Continuous.
func XCC() Personality {
	p := Standard()
	p.Name, p.Vendor, p.OEM, p.Product, p.Firmware = "xcc", "Lenovo", "Lenovo", "XClarity Controller", "9.10"
	p.SystemID, p.ManagerID, p.ChassisID = "1", "1", "1"
	p.MediaPlace, p.Media, p.Match = UnderBoth, MediaByPatch, MatchRequired
	p.Quirks = []Quirk{NoContinuous}
	p.Slots = []Slot{{ID: "RDOC1", Types: []string{"CD", "DVD", "USBStick"}}, {ID: "EXT1", Types: []string{"CD", "DVD", "USBStick"}}}
	return p
}

// X11 is like Supermicro's: the virtual drive is UsbCd, inserts take no flags,
// old root without slash.
func X11() Personality {
	p := Standard()
	p.Name, p.Vendor, p.OEM, p.Product, p.Firmware = "x11", "Supermicro", "Supermicro", "Supermicro BMC", "1.74.13"
	p.SystemID, p.ManagerID, p.ChassisID, p.MediaPlace = "1", "1", "1", UnderManager
	p.Targets = []Target{TargetNone, TargetPxe, TargetHdd, TargetCd, TargetUsbCd}
	p.Quirks = []Quirk{InsertRefusesFlags, RootWantsSlash}
	return p
}

// MegaRAC is like AMI's: the override is set on /SD with If-Match, in full;
// changes elsewhere are refused with its address.
func MegaRAC() Personality {
	p := Standard()
	p.Name, p.Vendor, p.OEM, p.Product, p.Firmware = "megarac", "American Megatrends International", "Ami", "AMI Redfish Server", "13.05"
	p.SystemID, p.ManagerID, p.ChassisID, p.MediaPlace = "Self", "Self", "Self", UnderManager
	p.BootSettings, p.Match, p.Insert, p.Registry = "/SD", MatchRequired, InsertTask, "Base.1.5."
	p.Quirks = []Quirk{FutureState, BootWantsAll, InsertWantsProtocol}
	return p
}

// IBMC is like Huawei's: media by an action of its own, If-Match needed, a
// system that names no manager and a restart that is listed and refused.
func IBMC() Personality {
	p := Standard()
	p.Name, p.Vendor, p.OEM, p.Product, p.Firmware = "ibmc", "Huawei", "Huawei", "iBMC", "6.41"
	p.SystemID, p.ManagerID, p.ChassisID, p.MediaPlace = "1", "1", "1", UnderManager
	p.Media, p.Match = MediaByVmm, MatchRequired
	p.ResetTypes = []ResetType{ResetOn, ResetForceOff, ResetGracefulShutdown, ResetForceRestart}
	p.Quirks = []Quirk{ListedButRefused}
	return p
}

// OpenBMC is like the stock build: allowed values by ActionInfo, a slot that
// needs the transfer protocol.
func OpenBMC() Personality {
	p := Standard()
	p.Name, p.Vendor, p.OEM, p.Product, p.Firmware = "openbmc", "OpenBMC", "OpenBmc", "OpenBmc", "2.15.0-dev"
	p.SystemID, p.ManagerID, p.ChassisID, p.MediaPlace = "system", "bmc", "chassis", UnderManager
	p.Quirks = []Quirk{ResetInActionInfo, InsertWantsMethod}
	p.Slots = []Slot{{ID: "Slot_0", Types: []string{"CD", "USBStick"}}, {ID: "Slot_1", Types: []string{"CD", "USBStick"}}}
	return p
}

// IRMC is like Fujitsu's: media by an action of the system, allowed values follow the power, slashes are escaped,
// Disabled is refused.
func IRMC() Personality {
	p := Standard()
	p.Name, p.Vendor, p.OEM, p.Product, p.Firmware = "irmc", "FUJITSU", "ts_fujitsu", "iRMC S5", "3.37P"
	p.SystemID, p.ManagerID, p.ChassisID, p.MediaPlace = "0", "iRMC", "0", UnderSystem
	p.Media = MediaByFTS
	p.Quirks = []Quirk{ResetByPower, EscapedSlashes, DisabledRefused}
	return p
}

// CIMC is like Cisco's: the serial number is the system's id, a slot that
// answers 405 before one that works, tasks.
func CIMC() Personality {
	p := Standard()
	p.Name, p.Vendor, p.OEM, p.Product, p.Firmware = "cimc", "Cisco Systems Inc.", "Cisco", "UCS C220", "4.2(3b)"
	p.ManagerID, p.ChassisID, p.MediaPlace, p.Insert = "CIMC", "1", UnderManager, InsertTask
	p.Quirks = []Quirk{FirstSlotDead}
	p.Slots = []Slot{{ID: "0", Types: []string{"CD", "DVD"}}, {ID: "1", Types: []string{"CD", "DVD"}}}
	return p
}

// Personalities lists all of them, the default first.
func Personalities() []Personality {
	return []Personality{Standard(), Embedded(), Strict(), IDRAC9(), IDRAC10(), ILO5(), XCC(), X11(), MegaRAC(), IBMC(), OpenBMC(), IRMC(), CIMC()}
}

// With is the personality with more quirks.
func (p Personality) With(more ...Quirk) Personality {
	p.Quirks = append(slices.Clip(p.Quirks), more...)
	return p
}

func (p Personality) resets() []ResetType {
	if p.ResetTypes != nil {
		return p.ResetTypes
	}
	return resetTypes
}

func (p Personality) targets() []Target {
	out := p.Targets
	if out == nil {
		out = targets
	}
	return out
}
