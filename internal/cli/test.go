package cli

type testCommand struct {
	Files []string `arg:"" name:"file" help:"Integration files; the cases are in NAME.test.yaml beside each."`
}

// Run implements the command.
func (t *testCommand) Run(*console) error { return usage("not built") }
