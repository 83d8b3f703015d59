package tui

import "maps"

// japanesePlatformSentences are all sentences of the engine about the VM
// platform.
func japanesePlatformSentences() map[string]string {
	out := map[string]string{}
	for _, part := range []map[string]string{
		japaneseComponents(), japaneseFits(), japaneseLimits(), japaneseModels(), japaneseSkips(), japanesePlatformFile(), japaneseInstallation(), japaneseReadiness(), japanesePlatformRun(), japaneseRing(), japaneseRingTrouble(),
	} {
		maps.Copy(out, part)
	}
	return out
}

// japaneseComponents are sentences of the plan about components and versions.
func japaneseComponents() map[string]string {
	return map[string]string{
		"the nodes' software has no KubeVirt, so there is no VM platform, and what the site says of it has no effect": "ノード用ソフトウェアに KubeVirt がないため VM プラットフォームはなく、サイトの記述は効果がありません",
		"Point cluster.software at software with KubeVirt; nothing to do if ready nodes are all you want.":            "cluster.software に KubeVirt のあるソフトウェアを指定してください。準備のできたノードだけでよければ何も要りません。",
		"%d percent of memory cannot be promised":                                                            "メモリーの %d パーセントは約束できません",
		"Use 10 to 1000, or leave it out.":                                                                   "10 から 1000 にするか、省いてください。",
		"the nodes' software has no manifests of %s, which the site asks for":                                "サイトが求める %s のマニフェストがノード用ソフトウェアにありません",
		"Point cluster.software at software that has it, or leave it out.":                                   "cluster.software にそれのあるソフトウェアを指定するか、省いてください。",
		"the nodes' software has manifests of %s of the versions %s and %s":                                  "ノード用ソフトウェアに %s の版 %s と %s のマニフェストがあります",
		"Use software with one version of it.":                                                               "1 つの版だけのソフトウェアを使ってください。",
		"the nodes' software has no manifests of these components of the default set; they are left out: %s": "標準のコンポーネントのうち次のマニフェストがノード用ソフトウェアになく、省きます: %s",
		"Nothing to do if you do not need them; else point cluster.software at software that has them.":      "要らなければ何も要りません。要るなら cluster.software にそれらのあるソフトウェアを指定してください。",
		"%q is no component":                                                                                                            "%q というコンポーネントはありません",
		"Use one of those that docs/platform.md lists.":                                                                                 "docs/platform.md にあるものを使ってください。",
		"%s is left out here, and needed for something else that the site asks for":                                                     "%s はここで省かれていますが、サイトが求めるほかのものに必要です",
		"Take it out of platform.without, or what needs it out of the site file.":                                                       "platform.without から外すか、それを必要とするものをサイトファイルから外してください。",
		"calico is a pod network, and the cluster has %s already":                                                                       "calico は Pod ネットワークで、クラスターにはすでに %s があります",
		"Leave it out; a cluster with Calico needs cluster.cni: own from its beginning.":                                                "省いてください。Calico のクラスターには最初から cluster.cni: own が要ります。",
		"%s is left out, because %s is":                                                                                                 "%[2]s を省くため %[1]s も省きます",
		"Nothing to do if you do not need it.":                                                                                          "要らなければ何も要りません。",
		"%s %s with Kubernetes %s is known not to fit: %v":                                                                              "%s %s は Kubernetes %s と合わないことが分かっています: %v",
		"Use versions that docs/platform.md lists as fitting; or set platform.none: true.":                                              "docs/platform.md で合うとされる版を使うか、platform.none: true にしてください。",
		"nothing is known of %s %s with Kubernetes %s; the proofs will show":                                                            "%s %s と Kubernetes %s の組は何も分かっていません。実証で分かります",
		"nothing is known of %s; the proofs will show":                                                                                  "%s については何も分かっていません。実証で分かります",
		"%s %s with Kubernetes %s needs the feature gate %s, without which the cluster was begun: %v":                                   "%s %s は Kubernetes %s では機能ゲート %s が必要ですが、クラスターはそれなしで始められました: %v",
		"%s %s with Kubernetes %s needs the feature gate %s, with which the cluster is begun: %v":                                       "%s %s は Kubernetes %s では機能ゲート %s が必要で、クラスターはそれを付けて始めます: %v",
		"Use software with a KubeVirt that fits the cluster's Kubernetes as it is, set platform.none: true, or begin the cluster anew.": "クラスターの Kubernetes にそのまま合う KubeVirt のソフトウェアを使うか、platform.none: true にするか、クラスターを始め直してください。",
		"The cluster goes on without a VM platform. Use software with a KubeVirt that fits the cluster's Kubernetes as it is, set platform.none: true, or begin the cluster anew.": "クラスターは VM プラットフォームなしで続きます。クラスターの Kubernetes にそのまま合う KubeVirt のソフトウェアを使うか、platform.none: true にするか、クラスターを始め直してください。",
		"Nothing to do; a newer KubeVirt does without.": "何も要りません。新しい KubeVirt ではなくても済みます。",
		"the plan before had these components, and this one has not; what is installed of them stays as it is, and is not looked after: %s": "前の計画にあった次のコンポーネントがこの計画にはありません。導入済みのものはそのまま残り、面倒は見ません: %s",
		"Nothing to do if this is meant; taking a component away is a person's work.":                                                       "意図したものなら何も要りません。コンポーネントを取り除くのは人の仕事です。",
	}
}

// japaneseFits are those of the version matrix.
func japaneseFits() map[string]string {
	return map[string]string{
		"Since Kubernetes 1.34 the conditions of pods carry observedGeneration. KubeVirt 1.6 drops that field and then does not get its own patch of a pod through, so every VM stays Pending.": "Kubernetes 1.34 から Pod の状態に observedGeneration が付きます。KubeVirt 1.6 はそれを落とすため自身の Pod 更新が通らず、すべての VM が Pending のままになります。",
		"KubeVirt's makers did not test 1.5 and earlier with Kubernetes 1.34, which changed the conditions of pods that KubeVirt patches.":                                                      "KubeVirt の作者は 1.5 以前を Kubernetes 1.34 と試していません。1.34 では KubeVirt が更新する Pod の状態が変わりました。",
		"KubeVirt 1.6 needs a feature gate for Kubernetes 1.34 already, and its makers did not test it with a newer one.":                                                                       "KubeVirt 1.6 は Kubernetes 1.34 ですでに機能ゲートが必要で、作者はそれより新しいものと試していません。",
		"KubeVirt's makers test each release with the three releases of Kubernetes that are the newest at its time.":                                                                            "KubeVirt の作者は各版を、その時点で最新の Kubernetes 3 版と試します。",
	}
}

// japaneseLimits are sentences of the plan about networks, storage and room.
func japaneseLimits() map[string]string {
	return map[string]string{
		"%q is not one of platform.networks": "%q は platform.networks にありません",
		"Name one of them, or leave it out.": "そのどれかを書くか、省いてください。",
		"migrations cannot use network %s: its bridge has no port, so it does not lead from node to node": "ネットワーク %s は移動に使えません: ブリッジにポートがなく、ノード間をつなぎません",
		"Name its port, or another migrationNetwork.":                                                     "そのポートか、別の migrationNetwork を書いてください。",
		"Write it like 10.0.20.0/24.":                                                                     "10.0.20.0/24 のように書いてください。",
		"%s overlaps %s for %s, and the proofs would take two addresses of it":                            "%s は %s (%s) と重なり、実証がそこから 2 つのアドレスを使うことになります",
		"Name the VMs' own subnet; or leave it out, and link-local addresses are taken.":                  "VM だけのサブネットを書くか、省いてください。省くとリンクローカルアドレスを使います。",
		"%s carries the own address of these nodes; as a port of bridge %s it would cut them off: %s":     "%s は次のノード自身のアドレスを持ちます。ブリッジ %s のポートにすると切り離されます: %s",
		"Name another port.":                     "別のポートを書いてください。",
		"these nodes have no port called %s: %s": "次のノードに %s というポートがありません: %s",
		"Compare with `metalrise inspect`; VMs of this network do not leave these nodes.":                                                   "`metalrise inspect` と比べてください。このネットワークの VM はこれらのノードから出られません。",
		"there is no storage class: VMs have only disks that come with their image and are gone when they stop":                             "ストレージクラスがありません: VM のディスクはイメージのものだけで、停止すると消えます",
		"a volume of class %s is attached to one node only: VMs with disks do not move, and do not start elsewhere when their node is lost": "クラス %s のボリュームは 1 つのノードにしかつながりません: ディスクのある VM は移動せず、ノードを失っても他で始まりません",
		"Nothing to do if that is what you want; else bring shared storage and name its class under platform.storage.":                      "それでよければ何も要りません。そうでなければ共有ストレージを用意し、platform.storage にクラスを書いてください。",
		"the site's own CSI driver is installed, and no class of it is named, so disks of VMs do not lie there and no proof uses it":        "サイト独自の CSI ドライバーを入れますが、そのクラスが書かれていないので、VM のディスクはそこに置かれず、どの実証も使いません",
		"Name the class that its manifests bring; nothing to do if the driver is not for disks of VMs.":                                     "そのマニフェストが作るクラスを書いてください。VM のディスクのためのドライバーでなければ何も要りません。",
		"live migrations over network %s need a subnet of which each node gets an address":                                                  "ネットワーク %s でのライブ移動には、各ノードがアドレスを得るサブネットが要ります",
		"Name it, or leave platform.migrationNetwork out.":                                                                                  "それを書くか、platform.migrationNetwork を省いてください。",
		"%s has %d addresses for live migrations, and there are %d hypervisors":                                                             "%s にはライブ移動用のアドレスが %d 個あり、ハイパーバイザーは %d 台です",
		"Name a larger subnet of IPv4. Its first two addresses and the last five are not taken.":                                            "もっと大きい IPv4 サブネットを書いてください。最初の 2 個と最後の 5 個のアドレスは使いません。",
		"the nodes' software has no CNI plugin bridge, which VM networks need":                                                              "VM ネットワークに要る CNI プラグイン bridge がノード用ソフトウェアにありません",
		"Point cluster.software at software that has the file cni/bridge.":                                                                  "cluster.software に cni/bridge のあるソフトウェアを指定してください。",
		"these nodes are installed already without %s as a port of bridge %s, and VMs of network %s do not leave them: %s":                  "次のノードは、%[2]s のポートとして %[1]s を持たずにすでにインストールされていて、ネットワーク %[3]s の VM はそこから出られません: %[4]s",
		"Set it up on them, by NetworkManager or NMState; or replace them one by one with `metalrise node replace`.":                        "NetworkManager か NMState で設定するか、`metalrise node replace` で一台ずつ入れ替えてください。",
		"class %s is yours, and local storage, which platform.components asks for, would make a class of that name":                         "クラス %s は自分のものですが、platform.components が求めるローカルストレージが同じ名前のクラスを作ることになります",
		"Leave local-storage out; or set platform.storage.path if the class is to be that of local storage.":                                "local-storage を省くか、クラスをローカルストレージのものにするなら platform.storage.path を設定してください。",
		"%q is no proof": "%q という実証はありません",
		"the memory of these is unknown, so room for VMs is not counted on them: %s":                                                                      "次のメモリーが不明なため、VM の余地に数えません: %s",
		"there is no room for a VM of %d vCPU and %d GiB; there is for %d of %d vCPU and %d GiB":                                                          "%d vCPU、%d GiB の VM の余地はありません。%[4]d vCPU、%[5]d GiB なら %[3]d 台分あります",
		"Nothing to do if VMs are small.":                                                                                                                 "VM が小さければ何も要りません。",
		"Use larger servers, fewer huge pages or a smaller reserve; or set platform.none: true.":                                                          "もっと大きいサーバーにするか、ヒュージページか確保量を減らすか、platform.none: true にしてください。",
		"what the host, Kubernetes and the platform need leaves no hypervisor CPUs for a VM of %d vCPU and %d GiB; VMs will be slow":                      "ホスト、Kubernetes、プラットフォームの分を除くと、%d vCPU、%d GiB の VM のための CPU がどのハイパーバイザーにも残りません。VM は遅くなります",
		"what the host, Kubernetes and the platform need leaves no hypervisor more than %d MiB of memory for VMs; one of %d vCPU and %d GiB takes %d MiB": "ホスト、Kubernetes、プラットフォームの分を除くと、VM 用メモリーはどのハイパーバイザーでも %d MiB 以下です。%d vCPU、%d GiB の VM には %d MiB 要ります",
	}
}

// japaneseModels are sentences of the plan about processors.
func japaneseModels() map[string]string {
	return map[string]string{
		"%q is none of the CPU models that can be checked; VMs start only where KubeVirt finds that the processor has it":                                           "%q は確認できる CPU モデルではありません。VM は、KubeVirt がプロセッサーにあると認めた所でだけ始まります",
		"Compare it with the labels cpu-model.node.kubevirt.io of the nodes; or leave it out.":                                                                      "ノードのラベル cpu-model.node.kubevirt.io と比べるか、省いてください。",
		"by what is known of their processors, these have no %s and get no VMs of the default: %s":                                                                  "プロセッサーから分かる限り、次には %s がなく、標準の VM は割り当てられません: %s",
		"Leave it out, or name an older model.":                                                                                                                     "省くか、より古いモデルを書いてください。",
		"Leave it out, or name %s, which all have.":                                                                                                                 "省くか、すべてにある %s を書いてください。",
		"the processors of these are not known well enough to choose a CPU model that all have: %s; VMs get the host's own, and move where processors are the same": "次のプロセッサーがよく分からず、すべてにある CPU モデルを選べません: %s。VM にはホスト自身のものを与え、同じプロセッサーの間で移動します",
		"Nothing to do where all servers are of one kind; else set platform.cpuModel to a model that all have.":                                                     "サーバーがすべて同じ種類なら何も要りません。そうでなければ platform.cpuModel にすべてにあるモデルを設定してください。",
		"the hypervisors' processors have no CPU model in common: %s; VMs get the host's own, and move only to hypervisors that have it too":                        "ハイパーバイザーのプロセッサーに共通の CPU モデルがありません: %s。VM にはホスト自身のものを与え、それもある所へだけ移動します",
		"Accept it, or let hypervisors of one maker only run VMs.":                                                                                                  "そのままにするか、1 つのメーカーのハイパーバイザーだけで VM を動かしてください。",
		"the hypervisors' processors differ: %s; VMs get %s by default, which all have, so that they can move":                                                      "ハイパーバイザーのプロセッサーが違います: %s。移動できるよう、すべてにある %s を VM の標準にします",
		"Nothing to do. VMs that need more can name another model, and then stay where that is.":                                                                    "何も要りません。もっと必要な VM は別のモデルを指定でき、そのモデルのある所に留まります。",
	}
}

// japaneseSkips are the reasons why proofs are not run.
func japaneseSkips() map[string]string {
	return map[string]string{
		"skipped because the site file says so": "サイトファイルの指定により省略",
		"the nodes' software has no guest for proofs (a container image named guest), so no VM is started": "ノード用ソフトウェアに実証用ゲスト (コンテナーイメージ guest) がないため VM を始めません",
		"the plan has no hypervisor":                                             "計画にハイパーバイザーがありません",
		"there is only one hypervisor":                                           "ハイパーバイザーが 1 台だけです",
		"no two hypervisors have processors between which VMs can move":          "VM が移動できるプロセッサーの組がありません",
		"every hypervisor is a control plane that the cluster cannot be without": "どのハイパーバイザーも、クラスターに欠かせない制御ノードです",
		"there is no storage class (platform.storage)":                           "ストレージクラスがありません (platform.storage)",
		"there is no VolumeSnapshotClass (platform.storage.snapshots)":           "VolumeSnapshotClass がありません (platform.storage.snapshots)",
	}
}

// japanesePlatformFile are sentences about the section platform of the site file.
func japanesePlatformFile() map[string]string {
	return map[string]string{
		"%q is the name of a bridge that other software makes":                                            "%q はほかのソフトウェアが作るブリッジの名前です",
		"%q is no name of a network interface: at most 15 letters, digits, dots, hyphens and underscores": "%q はネットワークインターフェースの名前ではありません: 英数字、点、ハイフン、下線で 15 文字以内です",
		"%q is the name of an interface that Kubernetes or its pod network makes":                         "%q は Kubernetes か Pod ネットワークが作るインターフェースの名前です",
		"%s has no room for two hosts":                                                                    "%s には 2 台分のアドレスがありません",
		"%q is no name of a CPU model":                                                                    "%q は CPU モデルの名前ではありません",
		"%q is no name of a feature gate":                                                                 "%q は機能ゲートの名前ではありません",
		"%q is no name of a Kubernetes object":                                                            "%q は Kubernetes オブジェクトの名前ではありません",
		"this is no path of at most 256 printable characters without blanks":                              "空白のない 256 文字以内のパスではありません",
		"%q does not begin at the root":                                                                   "%q はルートから始まっていません",
		"%q is another way to write %q":                                                                   "%q は %q の別の書き方です",
		"%q lies in a folder of the operating system":                                                     "%q は OS のフォルダーの中です",
		"%q holds more than volumes":                                                                      "%q にはボリューム以外のものもあります",
		"without KubeVirt there is no VM platform":                                                        "KubeVirt なしの VM プラットフォームはありません",
		"Write none: true instead.":                                                                       "代わりに none: true と書いてください。",
		"%s is named under components too":                                                                "%s は components にもあります",
		"Remove it from one of the two.":                                                                  "どちらか一方から外してください。",
		"Name one of them, or remove this line.":                                                          "そのどれかを書くか、この行を消してください。",
		"Name one of them, or remove this line. Did you mean %s?":                                         "そのどれかを書くか、この行を消してください。%s のことですか。",
		"there is no class that this could be true of":                                                    "これが当てはまるクラスがありません",
		"Add platform.storage.class, or remove this line.":                                                "platform.storage.class を加えるか、この行を消してください。",
		"local storage is neither shared nor takes snapshots":                                             "ローカルストレージは共有できず、スナップショットも取れません",
		"Remove path if the class is one of yours, else this line.":                                       "クラスが自分のものなら path を、そうでなければこの行を消してください。",
		"a bridge is no port of itself":                                                                   "ブリッジは自分自身のポートではありません",
		"Name the interface that leads to the switch.":                                                    "スイッチにつながるインターフェースを書いてください。",
		"%q is also the name of platform.networks[%d]":                                                    "%q は platform.networks[%d] の名前でもあります",
		"Give each network a name of its own.":                                                            "ネットワークごとに別の名前を付けてください。",
		"bridge %s has another port in platform.networks[%d]":                                             "ブリッジ %s は platform.networks[%d] では別のポートです",
		"Name the same port in both, or another bridge.":                                                  "両方に同じポートを書くか、別のブリッジにしてください。",
		"platform.networks[%d] is the same bridge and VLAN":                                               "platform.networks[%d] と同じブリッジと VLAN です",
		"Leave one of them out, or give it another VLAN.":                                                 "どちらかを省くか、別の VLAN にしてください。",
		"%s is a port of bridge %s in platform.networks[%d]":                                              "%s は platform.networks[%[3]d] でブリッジ %[2]s のポートです",
		"An interface is a port of one bridge only: name that bridge, and tell networks apart by VLAN.":   "インターフェースは 1 つのブリッジのポートにしかなれません。そのブリッジを書き、ネットワークは VLAN で分けてください。",
		"%s is a port in platform.networks[%d]":                                                           "%s は platform.networks[%d] ではポートです",
		"Give the bridge a name of its own.":                                                              "ブリッジに別の名前を付けてください。",
		"%s is a bridge in platform.networks[%d]":                                                         "%s は platform.networks[%d] ではブリッジです",
	}
}
