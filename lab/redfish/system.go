package redfish

import "slices"

// writable lists what a PATCH of the system may hold.
var writable = []string{"Boot", "AssetTag"}

func (b *BMC) patchSystem(in object) *problem {
	b.mu.Lock()
	defer b.mu.Unlock()
	boot, tag := b.boot, b.assetTag
	if _, given := in["Boot"]; given {
		if p := b.bootElsewhere(); p != nil {
			return p
		}
		if b.cfg.Personality.BootSettings != "" {
			delete(in, "Boot") // taken, and without effect: that is how such BMCs are
		}
	}
	for _, key := range sortedKeys(in) {
		switch key {
		case "Boot":
			want, isObject := in[key].(object)
			if !isObject {
				return propertyValueTypeError(key, in[key])
			}
			var p *problem
			if boot, p = b.mergeBootLocked(want); p != nil {
				return p
			}
		case "AssetTag":
			text, isText := in[key].(string)
			if !isText || len(text) > 64 {
				return propertyValueTypeError(key, in[key])
			}
			tag = text
		default:
			if _, known := b.systemBody()[key]; known && !slices.Contains(writable, key) {
				return propertyNotWritable(key)
			}
			return propertyUnknown(key)
		}
	}
	b.boot, b.assetTag = boot, tag
	b.saveLocked()
	return nil
}
