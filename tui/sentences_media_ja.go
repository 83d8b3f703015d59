package tui

// japaneseMedia are sentences about what BMCs are given: the full or the minimal
// medium.
func japaneseMedia() map[string]string {
	return map[string]string{
		"minimal medium, as %s says: the server itself fetches its root file system from us": "最小媒体 (%s の指定): ルートファイルシステムはサーバー自身がこちらから取得",
		"%v; next is the minimal medium": "%v。次は最小媒体",
		"the BMC gets the full medium at %s: all %s would take %s, and a boot may take %s":                                                                              "BMC への完全な媒体の転送は %s: 全体 (%s) には %s かかり、起動の制限時間は %s です",
		"within %s the BMC read %s of the full medium's %s, and still reads":                                                                                            "%s の間に BMC が読んだのは %s (完全な媒体は %s) で、まだ読み取り中です",
		"its BMC read the minimal medium, and the server did not ask for its root file system at %s: the planned network did not lead there, or the kernel did not run": "BMC は最小媒体を読みましたが、サーバーは %s にルートファイルシステムを要求していません: 計画したネットワークで届かないか、カーネルが動いていません",
		"%v; its BMC read %s of the %s medium":                              "%v。BMC が %s を読み取り (媒体: %s)",
		"its BMC read %s of the %s medium":                                  "BMC が %s を読み取り (媒体: %s)",
		"its BMC read %s of the %s medium at %s":                            "BMC が %s を読み取り (媒体: %s、速度: %s)",
		"its BMC read %s of the %s medium; the server itself read %s":       "BMC が %s を読み取り (媒体: %s)。サーバー自身は %s を取得",
		"its BMC read %s of the %s medium at %s; the server itself read %s": "BMC が %s を読み取り (媒体: %s、速度: %s)。サーバー自身は %s を取得",
		"this engine makes full media only":                                 "このエンジンは完全な媒体だけを作ります",
		"not tried: no minimal medium can be made: %v":                      "未試行: 最小媒体を作れません: %v",
		"the release's initial RAM disk takes no network settings":          "このリリースの初期 RAM ディスクはネットワーク設定を受け取りません",
		"full medium, as %s says":                                           "完全な媒体 (%s の指定)",
	}
}
