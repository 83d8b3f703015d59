// Package tui is what people see and type: the run screen and the wizard in a
// terminal. Screens are pure: an Input changes the App and gives back Actions,
// and a View is made from the App alone. Only the runner (Run) does anything,
// by way of Works, which its caller provides.
//
// It never talks to a BMC, a file or an engine itself, never decides about
// servers (that is for package plan) and never knows a colour outside of Look.
//
// # One queue
//
// Keys, ticks, sizes and answers arrive as Inputs in one order. They can be
// written down and played again: the same Inputs give the same Views.
package tui
