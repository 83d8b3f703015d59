package main

import "github.com/spf13/cobra"

func labCommand(o *options) *cobra.Command { return &cobra.Command{Use: "lab"} }
