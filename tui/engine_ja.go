package tui

import "metalrise.dev/fleet"

func japaneseSentences() map[string]string { return nil }

func japanesePages() map[fleet.Code]fleet.CodePage { return nil }
