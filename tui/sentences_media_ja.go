package tui

// japaneseMedia are sentences about what BMCs are given: the full or the minimal
// medium.
func japaneseMedia() map[string]string {
	return map[string]string{
		"minimal medium, as %s says: the server itself fetches its root file system from us": "最小媒体 (%s の指定): ルートファイルシステムはサーバー自身がこちらから取得",
		"full medium, as %s says": "完全な媒体 (%s の指定)",
	}
}
