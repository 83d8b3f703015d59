// Package v1compare measures Bubble Tea v1 beside v2, drawing the same screens of
// package tui on a VT100 of 80 x 24: bytes per key, per row of progress, and what
// each sends when it starts. docs/decisions/0012-bubble-tea.md holds the numbers.
//
// It is a module of its own, so that metalrise itself never depends on v1.
package v1compare
