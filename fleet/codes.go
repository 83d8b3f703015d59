package fleet

// Code is the stable name of a fault or finding. It never changes its meaning.
type Code string

const (
	CodeUnexpected        Code = "MR-000"
	CodeSiteInvalid       Code = "SITE-001"
	CodeSiteUnknownServer Code = "SITE-002"
	CodeSecretUnreadable  Code = "SITE-003"
	CodeSiteLocked        Code = "SITE-004"
	CodeBMCUnreachable    Code = "BMC-001"
	CodeBMCNotRedfish     Code = "BMC-002"
	CodeBMCLoginRefused   Code = "BMC-003"
	CodeBMCPinChanged     Code = "BMC-004"
	CodeBMCAnswerInvalid  Code = "BMC-005"
	CodeBMCBusy           Code = "BMC-006"
	CodeBMCUnsupported    Code = "BMC-007"
	CodeBMCRejected       Code = "BMC-008"
	CodeBMCManySystems    Code = "BMC-009"
	CodeIdentityMismatch  Code = "BMC-010"
	CodePowerStuck        Code = "BMC-011"
	CodeMediaLost         Code = "BMC-012"
	CodeBMCPasswordChange Code = "BMC-013"
	CodeBMCSessionLimit   Code = "BMC-014"
	CodeBMCSessionRefused Code = "BMC-015"
	CodeBMCTLSCipher      Code = "BMC-016"
	CodeBMCTLSVersion     Code = "BMC-017"
	CodeBMCTLSSerial      Code = "BMC-018"
	CodeBMCLoginsSpent    Code = "BMC-019"
	CodeBMCLicence        Code = "BMC-030"
	CodeNoServers         Code = "PLAN-001"
	CodeTooFewServers     Code = "PLAN-002"
	CodeNoInstallDisk     Code = "PLAN-003"
	CodeAmbiguousDisk     Code = "PLAN-004"
	CodeDiskUnknown       Code = "PLAN-005"
	CodeNoNIC             Code = "PLAN-006"
	CodeAmbiguousNIC      Code = "PLAN-007"
	CodeAddressConflict   Code = "PLAN-008"
	CodeDuplicateIdentity Code = "PLAN-009"
	CodeNoIdentity        Code = "PLAN-010"
	CodeNoVirtualMedia    Code = "PLAN-011"
	CodeVirtualizationOff Code = "PLAN-012"
	CodeFactsMissing      Code = "PLAN-013"
	CodeFactsOld          Code = "PLAN-014"
	CodeMemoryTooSmall    Code = "PLAN-015"
	CodeNetworkInvalid    Code = "PLAN-016"
	CodeImageMissing      Code = "PLAN-017"
	CodeImageCorrupt      Code = "IMG-001"
	CodeIgnitionTooLarge  Code = "IMG-002"
	CodeConsentMissing    Code = "RUN-001"
	CodeConsentMismatch   Code = "RUN-002"
	CodePlanUnknown       Code = "RUN-003"
	CodePlanBlocked       Code = "RUN-004"
	CodeBootSilent        Code = "RUN-005"
	CodeTokenRefused      Code = "RUN-006"
	CodeFactsDiffer       Code = "RUN-007"
	CodeDiskChanged       Code = "RUN-008"
	CodeDiskForeign       Code = "RUN-009"
	CodeWriteFailed       Code = "RUN-010"
	CodeImageMismatch     Code = "RUN-011"
	CodeAgentSilent       Code = "RUN-012"
	CodeArriveSilent      Code = "RUN-013"
	CodeWrongBoot         Code = "RUN-014"
	CodeRetriesSpent      Code = "RUN-015"
	CodeAgentFailed       Code = "RUN-016"
	CodeKVMUnavailable    Code = "RUN-017"
	CodeClockSkew         Code = "RUN-018"
	CodeInterrupted       Code = "RUN-019"
	CodeStoreFailed       Code = "RUN-020"
	CodePlanStale         Code = "RUN-021"
	CodeClusterAddress    Code = "KUBE-001"
	CodeClusterNetwork    Code = "KUBE-002"
	CodePayloadInvalid    Code = "KUBE-003"
	CodePayloadCorrupt    Code = "KUBE-004"
	CodeAddressTaken      Code = "KUBE-005"
	CodeNodePrepare       Code = "KUBE-006"
	CodeClusterBegin      Code = "KUBE-007"
	CodeNodeJoin          Code = "KUBE-008"
	CodeNodeSilent        Code = "KUBE-009"
	CodeNodeNotAdmitted   Code = "KUBE-010"
	CodeNodeNotReady      Code = "KUBE-011"
	CodeKVMUnproven       Code = "KUBE-012"
	CodeAPIUnreachable    Code = "KUBE-013"
	CodeCSRRefused        Code = "KUBE-014"
	CodeTokenExpired      Code = "KUBE-015"
	CodeQuorumAtRisk      Code = "KUBE-016"
	CodeDrainBlocked      Code = "KUBE-017"
	CodeAPIRefused        Code = "KUBE-018"
	CodeFlavourUnknown    Code = "KUBE-019"
	CodeClusterStalled    Code = "KUBE-020"
	CodeNodeShape         Code = "KUBE-021"
)

// CodePage explains one code to people.
type CodePage struct {
	Code   Code   `json:"code"`
	Title  string `json:"title"`
	Why    string `json:"why"`
	Remedy string `json:"remedy"`
}

// CodePages lists every code, in the order of docs/errors.md, which is made from it.
func CodePages() []CodePage {
	return []CodePage{
		{CodeUnexpected, "an error nobody foresaw",
			"The cause chain is all that is known.",
			"Read the cause chain; retry the server. If it comes again, report it with `metalrise events --output json`."},
		{CodeSiteInvalid, "the site file is not valid",
			"A field is missing, has the wrong form or contradicts another.",
			"Correct the named field; `metalrise plan` reports all problems at once."},
		{CodeSiteUnknownServer, "the site file names a server that was not found",
			"An entry under servers names a serial or UUID that no enrolled server has.",
			"Correct the serial, or run discover and inspect again when the server was added later."},
		{CodeSecretUnreadable, "a secret could not be read",
			"The file or environment variable named for a secret is missing, empty or not readable.",
			"Create it (a file should have mode 0600) or correct the reference. The secret itself is never shown."},
		{CodeSiteLocked, "another metalrise works on this site",
			"One engine at a time may write a site's state.",
			"Use `metalrise status` and `metalrise events` beside it, or stop the other one with `metalrise stop`."},
		{CodeBMCUnreachable, "the BMC does not answer",
			"No TCP or TLS connection to the BMC's address could be made in time.",
			"Check cable, address and firewall of the BMC network; then retry."},
		{CodeBMCNotRedfish, "the address is not a Redfish service",
			"Something answers there, but not with a Redfish service root.",
			"Check the address; older BMCs may need a firmware update."},
		{CodeBMCLoginRefused, "the BMC refused the login",
			"User name or password are wrong, or the account is locked or disabled.",
			"Correct the credentials in the site file. metalrise tries a login only twice, so that no account is locked."},
		{CodeBMCPinChanged, "the BMC shows another certificate than before",
			"The certificate pinned at enrolment does not match the one presented now.",
			"If the BMC got a new certificate on purpose, remove its pin under bmcs.pins (or enroll again with --accept-new-pins); else find out who answers at that address."},
		{CodeBMCAnswerInvalid, "the BMC gave an answer that makes no sense",
			"A Redfish resource was too large, not JSON or lacked what it must have.",
			"Note the path in the cause chain; a BMC reset or firmware update often helps."},
		{CodeBMCBusy, "the BMC is not ready",
			"The BMC said that it is busy or starting, or that its session limit is reached.",
			"metalrise waits and tries again; if it lasts, reset the BMC."},
		{CodeBMCUnsupported, "the BMC cannot do this",
			"The BMC offers no way for the requested action, for example no virtual media slot for optical discs, or lacks a licence.",
			"Read the cause chain: a licence or firmware update may add it."},
		{CodeBMCRejected, "the BMC rejected a request",
			"The BMC understood the request and refused it.",
			"The BMC's own message is in the cause chain."},
		{CodeBMCManySystems, "several servers stand behind one BMC",
			"The BMC lists more than one system, and none was chosen.",
			"Name the wanted ones under servers by serial or UUID."},
		{CodeIdentityMismatch, "another server than the planned one answers",
			"The system UUID or serial behind the BMC's address is not the one in the plan.",
			"Somebody swapped machines, addresses or boards: run discover, inspect and plan again."},
		{CodePowerStuck, "the server's power does not change",
			"The BMC accepted the request, but the power state stayed as it was.",
			"Look at the server; press its power button or reset the BMC, then retry."},
		{CodeMediaLost, "the medium is not in the virtual drive",
			"After inserting, the BMC does not show the medium that was asked for.",
			"The BMC may not reach the serving address (routing, firewall, TLS) or lacks a licence; see the media line of `metalrise events`."},
		{CodeBMCPasswordChange, "the BMC wants a new password first",
			"The account still has a password that the BMC no longer accepts for work, usually the one it was delivered with.",
			"Change the password of the account named in the cause chain with the BMC's own web page, write the new one where the site file says, and retry. metalrise never changes a password by itself."},
		{CodeBMCSessionLimit, "the BMC has no session free",
			"The BMC allows only a few sessions at a time, and all are taken: by people, by other tools, or by programs that were killed.",
			"metalrise waits and tries again, and deletes sessions that it left behind itself. Close the others on the BMC's web page, or reset the BMC."},
		{CodeBMCSessionRefused, "the BMC does not accept its own sessions",
			"The login worked, but the BMC answers requests of the new session as if nobody had logged in.",
			"The account may lack the right to read: give it the role Administrator. If it has it, reset the BMC."},
		{CodeBMCTLSCipher, "the BMC knows only an outdated key exchange",
			"The BMC's TLS offers RSA key exchange or 3DES only: who records the traffic and later learns the BMC's key can read the password.",
			"Update the BMC's firmware. Until then name its address under bmcs.legacyTLS in the site file, or give --legacy-tls, to allow it for that address alone."},
		{CodeBMCTLSVersion, "the BMC knows only an outdated TLS",
			"The BMC speaks TLS 1.0 or 1.1 only, which are not safe any more (RFC 8996).",
			"Update the BMC's firmware. Until then name its address under bmcs.legacyTLS in the site file, or give --legacy-tls, to allow it for that address alone."},
		{CodeBMCTLSSerial, "the BMC's certificate has a negative serial number",
			"The certificate breaks the rule that serial numbers are positive (RFC 5280, section 4.1.2.2), so that it is not read.",
			"Let the BMC make a new certificate. Until then name its address under bmcs.legacyTLS in the site file, or give --legacy-tls, to allow it for that address alone."},
		{CodeBMCLoginsSpent, "no further login is tried on this BMC",
			"Logins of this account were refused before in this run. Another one could lock the account.",
			"Correct the credentials, then start the command again. If the account is locked, wait as long as the BMC's lockout lasts."},
		{CodeBMCLicence, "the BMC lacks a licence",
			"The BMC can do this, but the licence that its maker sells for it is missing, expired or not activated. Virtual media need one on iLO (Advanced), iDRAC (Enterprise), XCC, iRMC and many Supermicro boards (OOB or DCMS).",
			"Install the licence that the cause chain names; or boot the server another way, such as UEFI HTTP or PXE, which need none."},
		{CodeNoServers, "no server to plan with",
			"No enrolled server has facts, or all are excluded.",
			"Run discover and inspect; read their findings."},
		{CodeTooFewServers, "too few servers for the wished cluster",
			"Fewer servers than control planes are left.",
			"Add servers, or lower cluster.controlPlanes to 1 or 3."},
		{CodeNoInstallDisk, "no disk fits",
			"No disk of the server satisfies the disk hints and can be named by WWN or serial.",
			"Loosen the hints under disks, or name a disk under servers."},
		{CodeAmbiguousDisk, "several disks fit equally",
			"The rule (smallest fitting disk, then lowest WWN or serial) had to choose between disks of equal size.",
			"Check the choice; name the disk under servers if another one is meant."},
		{CodeDiskUnknown, "the named disk was not found",
			"The disk named under servers is not among the facts of that server.",
			"Compare serial and WWN with `metalrise inspect`."},
		{CodeNoNIC, "no network port can carry the address",
			"The server shows no port with a usable MAC address, or the named MAC is not among them.",
			"Check cabling and `metalrise inspect`; name the MAC under servers."},
		{CodeAmbiguousNIC, "several network ports could carry the address",
			"More than one port has link, or link is unknown; the first by MAC was taken.",
			"Check the choice; name the MAC under servers if another one is meant, or set network.bond."},
		{CodeAddressConflict, "two servers would get the same address or name",
			"Addresses or host names collide, or leave the subnet.",
			"Correct firstAddress or the entries under servers."},
		{CodeDuplicateIdentity, "two BMCs show the same server",
			"Two addresses report the same serial or UUID.",
			"Leave one address out, or correct the placeholder serial in the firmware."},
		{CodeNoIdentity, "a server cannot be told apart",
			"Its BMC shows neither a usable serial nor a system UUID.",
			"Set the serial number in the firmware; such a machine is never touched."},
		{CodeNoVirtualMedia, "the server has no usable virtual drive",
			"No virtual media slot that takes a CD image was found.",
			"A licence or firmware update of the BMC may add it."},
		{CodeVirtualizationOff, "virtualization may be off",
			"The facts say that the processor's virtualization is disabled or absent.",
			"Switch on VT-x or AMD-V in the BIOS settings; otherwise virtual machines will not run."},
		{CodeFactsMissing, "a needed fact is unknown",
			"The BMC did not tell something the plan uses.",
			"Read the problems in `metalrise inspect`."},
		{CodeFactsOld, "the facts are old",
			"The server was inspected long ago.",
			"Run inspect again before applying."},
		{CodeMemoryTooSmall, "too little memory",
			"The server has less memory than its role needs.",
			"Add memory or give it another role."},
		{CodeNetworkInvalid, "the network cannot work as described",
			"Gateway, address and prefix do not fit each other, or a DNS or NTP entry is no address.",
			"Correct the named field."},
		{CodeImageMissing, "the operating system release cannot be read",
			"The folder or stream file under image is missing or incomplete.",
			"Correct image in the site file; the cause names the file."},
		{CodeImageCorrupt, "an image does not have its digest",
			"The file's SHA-256 differs from the one in the stream metadata.",
			"Fetch the image again. Nothing is ever installed from it."},
		{CodeIgnitionTooLarge, "the configuration does not fit the embed area",
			"The compressed Ignition config is larger than the area the ISO reserves.",
			"Shorten certificates or keys in the site file."},
		{CodeConsentMissing, "nobody allowed the erasures of this plan",
			"apply needs the number of disks to be erased, typed by a person or given by --erase-disks.",
			"Read the list of disks and give their number."},
		{CodeConsentMismatch, "the number of disks does not match",
			"The number given is not the number of disks this plan erases.",
			"Read the list again; the plan may have changed since."},
		{CodePlanUnknown, "the plan does not exist",
			"No plan with that id is stored for this site.",
			"Run plan again and use its id."},
		{CodePlanBlocked, "the plan has blockers",
			"A finding of severity blocker forbids to apply it.",
			"Resolve the findings and plan again."},
		{CodeBootSilent, "the machine did not call home",
			"The machine was started from the medium, but its live system did not report in time.",
			"Look at its console. Usual causes: the medium was not booted, no network link, or the serving address is not reachable from the machine's network."},
		{CodeTokenRefused, "a machine showed a token that is not valid",
			"The token was used by another boot, belongs to another attempt or is unknown.",
			"An old medium may have been booted. Retry the server; it gets a new token."},
		{CodeFactsDiffer, "the machine is not as planned",
			"What the agent saw on the machine contradicts the plan: identity, disk or network port.",
			"Compare the causes; inspect and plan again."},
		{CodeDiskChanged, "the planned disk is not there",
			"The agent found no disk, or more than one, with the planned WWN or serial.",
			"Check the disk; plan again when it was replaced."},
		{CodeDiskForeign, "the planned disk carries another owner's data",
			"The agent found another cluster's or system's data on the disk to be erased.",
			"If it may go, set eraseForeign to its serial under servers and plan again."},
		{CodeWriteFailed, "the disk could not be written",
			"Reading the image or writing the disk ended with an error. The partition table was cleared, so that the disk cannot boot half-written.",
			"Read the cause; check the disk's health; then retry."},
		{CodeImageMismatch, "the written data do not have the planned digest",
			"The image that arrived at the machine is not the planned one. The partition table was cleared.",
			"Check the image with `metalrise plan`; retry."},
		{CodeAgentSilent, "the agent fell silent",
			"The agent reported before, but not again in time.",
			"Look at the machine's console; retry the server."},
		{CodeArriveSilent, "the installed system did not report",
			"The machine was let restart from its disk, but the installed system did not report in time.",
			"Look at its console: boot order, disk or network."},
		{CodeWrongBoot, "the machine booted the medium again",
			"After its disk was written the machine came back with the live system.",
			"Its boot order prefers the virtual drive or the BMC did not eject. Check the boot order; retry the server."},
		{CodeRetriesSpent, "an action kept failing",
			"A transient fault came back on every try.",
			"Read the last cause; correct it; then `metalrise retry`."},
		{CodeAgentFailed, "the agent gave up",
			"The agent on the machine reported a fault of its own.",
			"Read the cause chain; it carries the agent's words."},
		{CodeKVMUnavailable, "KVM is not usable on an installed server",
			"The installed system has no usable /dev/kvm.",
			"Switch on VT-x or AMD-V in the BIOS settings; machines without it (such as container lab machines) can only emulate."},
		{CodeClockSkew, "the machine's clock is wrong",
			"The machine's clock differs from ours by more than a minute; the agent set it.",
			"Check the BMC's and the machine's clock battery and NTP."},
		{CodeInterrupted, "the engine was stopped during an action",
			"What the action did was not seen. metalrise looks before it acts again.",
			"Nothing to do."},
		{CodeStoreFailed, "the journal cannot be written",
			"The disk that holds the site's state is full or failing. Nothing is done that cannot be written down.",
			"Free space or repair the disk; the run continues by itself."},
		{CodePlanStale, "the plan is not for what would be done now",
			"The release, the site or this program changed since the plan was made, or the stored plan is damaged.",
			"Run plan again, read it, and apply the new one."},
		{CodeClusterAddress, "the API's address is missing or impossible",
			"More than one control plane needs an address for the API that does not belong to one of them: cluster.vip or cluster.loadBalancer. A virtual address must lie in the servers' network and belong to nobody.",
			"Set one of the two in the site file and plan again."},
		{CodeClusterNetwork, "the cluster's own networks collide",
			"Pods, services and servers need address ranges that do not overlap, and each range must be large enough for the planned nodes.",
			"Correct cluster.podCIDR or cluster.serviceCIDR and plan again."},
		{CodePayloadInvalid, "the nodes' software cannot be used",
			"The folder named by cluster.software is missing, is not a payload, lacks something that this flavour needs, or is for another kind of processor.",
			"Name the right folder; `metalrise lab payload` makes one for the lab."},
		{CodePayloadCorrupt, "the nodes' software is damaged",
			"A file of the payload does not have the digest that payload.json gives.",
			"Copy the payload again from where it came."},
		{CodeAddressTaken, "somebody else answers to the API's virtual address",
			"Before the address was taken, the segment was asked who has it, and somebody answered.",
			"Free the address, or choose another cluster.vip and plan again."},
		{CodeNodePrepare, "the node's software could not be put in place",
			"Fetching, verifying or starting the nodes' software on the installed system ended with an error.",
			"Read the cause; it carries the step and the end of its output. Then `metalrise retry`."},
		{CodeClusterBegin, "the cluster could not be begun",
			"The first control plane did not come up. The other nodes wait, because a second beginning would make a second cluster.",
			"Read the cause, correct it, then retry this server: what is half done on it is removed first."},
		{CodeNodeJoin, "the node could not join the cluster",
			"The join ended with an error on the node. The rest of the cluster is not touched by it.",
			"Read the cause; then `metalrise retry`: what is half done on the node is removed and it gets a new token."},
		{CodeNodeSilent, "the installed system fell silent",
			"The installed system was becoming a node and was not heard from in time. It may be switched off, or have lost its network.",
			"Look at its console; switch it on. It goes on by itself; `metalrise retry` when the server is held."},
		{CodeNodeNotAdmitted, "the node did not appear in the cluster as planned",
			"The node said that it joined, but the API does not show it with the planned name, address and system UUID.",
			"Compare the causes. Remove an old Node object of that name; then `metalrise retry`."},
		{CodeNodeNotReady, "the node is not ready",
			"One or more of the node's checks did not come true in time. Each says what is missing.",
			"Read the checks in `metalrise status`; the node goes on by itself as soon as they are true."},
		{CodeKVMUnproven, "KVM is not proven on the node",
			"The installed system cannot run virtual machines with KVM, and the site file does not allow emulation.",
			"Switch on the processor's virtualization in the BIOS settings (the cause names the attribute), or set virtualization.emulation: true for machines that only rehearse."},
		{CodeAPIUnreachable, "the cluster's API does not answer",
			"No control plane answered at the API's address.",
			"Check that control planes run and that this computer reaches the address. Everything goes on by itself once it answers."},
		{CodeCSRRefused, "a certificate was refused",
			"A node asked for a certificate whose name, address or identity is not the planned one.",
			"If the request is honest, plan again with the values it names; else find out who asked."},
		{CodeTokenExpired, "the node's token expired",
			"The token with which the node was to join was not used in its time.",
			"`metalrise retry` gives the node a new one."},
		{CodeQuorumAtRisk, "the control plane would lose its majority",
			"Taking this control plane away would leave fewer healthy members than etcd needs.",
			"Bring another control plane back first, or name --force when the cluster is to be given up."},
		{CodeDrainBlocked, "the node could not be drained",
			"Pods or VMs did not leave the node in time, most often because a disruption budget forbids it.",
			"Read which ones; move or stop them, then repeat the command."},
		{CodeAPIRefused, "the cluster's API refused a request",
			"The API answered, and said no.",
			"Read the cause; it carries the API's words."},
		{CodeFlavourUnknown, "this flavour is not built yet",
			"The site file asks for a flavour of Kubernetes that this metalrise cannot bring up.",
			"Use cluster.flavour: kubeadm."},
		{CodeClusterStalled, "nothing moves in the cluster",
			"This server waits for another one that is held.",
			"Look at the held servers first."},
		{CodeNodeShape, "the server does not suit its part in the cluster",
			"Its size, its name or its settings do not fit what the site file asks of a node of this role.",
			"Read the finding; it names the field."},
	}
}

// Page finds the page of a code.
func Page(c Code) (CodePage, bool) {
	for _, p := range CodePages() {
		if p.Code == c {
			return p, true
		}
	}
	return CodePage{}, false
}
