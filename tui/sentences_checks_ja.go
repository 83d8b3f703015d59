package tui

// japaneseChecks say what a node or the cluster lacks.
func japaneseChecks() map[string]string {
	return map[string]string{
		"the API has no node %s":                                                    "API にノード %s がありません",
		"pod network and rules of admission were not applied yet":                   "Pod ネットワークと受け入れ規則がまだ適用されていません",
		"the node has not said its address yet":                                     "ノードがまだアドレスを知らせていません",
		"the node's address is %s, the planned one is %s":                           "ノードのアドレスは %s、計画は %s です",
		"the node runs on a machine with system UUID %s, the planned server has %s": "ノードの機械のシステム UUID は %s、計画のサーバーは %s です",
		"it lacks %v": "不足: %v",
		"label %s":    "ラベル %s",
		"taint %s":    "テイント %s",
		"the kubelet has not asked for a serving certificate, or not in the last hour":                 "kubelet が証明書をまだ (またはこの 1 時間) 求めていません",
		"the kubelet has not asked for a serving certificate in the last hour":                         "kubelet がこの 1 時間、証明書を求めていません",
		"the kubelet has not asked for a serving certificate in the last hour, and it is not seen: %s": "kubelet がこの 1 時間証明書を求めておらず、提示も見えません: %s",
		"the request %s was refused: %v":                          "要求 %s は拒否されました: %v",
		"the request %s is approved and not signed yet":           "要求 %s は承認済み、未署名です",
		"the request %s waits to be judged":                       "要求 %s は審査待ちです",
		"the node is not ready, so its network is not proven: %v": "ノードの準備ができておらず、ネットワークは未確認: %v",
		"DaemonSet %s has no ready pod on it%s":                   "DaemonSet %s の準備済み Pod がありません%s",
		"the kubelet has not said yet how it is":                  "kubelet がまだ状態を知らせていません",
		"the kubelet was last heard from at %s: %s":               "kubelet の最後の連絡は %s: %s",
		"the kubelet has not said yet whether there is %s":        "kubelet が %s の有無をまだ知らせていません",
		"%s is not known: %s":                                     "%s は不明: %s",
		"%s has no pod":                                           "%s の Pod がありません",
		"etcd has no member of this node":                         "etcd にこのノードのメンバーがありません",
		"its member of etcd still learns and does not vote":       "etcd のメンバーは同期中で、まだ投票しません",
		"its member of etcd is not healthy: %v":                   "etcd のメンバーが健全ではありません: %v",
		"nobody has looked":                                       "未確認",
		"it is cordoned":                                          "配置停止中です",
		"etcd has not been asked for its members yet":             "etcd のメンバーは未確認です",
		"not voting and healthy: %s":                              "投票できる健全な状態でない: %s",
		"members that are in no plan: %s":                         "どの計画にもないメンバー: %s",
		"there is no Deployment coredns in kube-system":           "kube-system に Deployment coredns がありません",
		"pod %s: %s":                   "Pod %s: %s",
		"%d of its pods are available": "使える Pod は %d",
	}
}
