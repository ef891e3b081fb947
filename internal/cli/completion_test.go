package cli

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

func TestCompletion(t *testing.T) {
	t.Parallel()
	script := func(shell string) string {
		var out, errs bytes.Buffer
		if code := Main(t.Context(), Streams{Out: &out, Err: &errs}, []string{"completion", shell}); code != exitOK {
			t.Fatalf("completion %s: status %d: %s", shell, code, errs.String())
		}
		return out.String()
	}
	if text := script("zsh"); !strings.HasPrefix(text, "autoload -U +X bashcompinit") {
		t.Errorf("zsh does not load what it needs: %.60s", text)
	}
	if text := script("fish"); !strings.Contains(text, "complete -c bulkhead -n '__fish_seen_subcommand_from completion' -x -a 'bash zsh fish'") {
		t.Error("fish does not offer the shells")
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is not here")
	}
	for _, tt := range []struct {
		line string // its last word is completed
		want string // among what is offered
		not  string // not among it
	}{
		{"bulkhead ", "validate", "role"},
		{"bulkhead val", "validate", "up"},
		{"bulkhead up --st", "--state", "--flow"},
		{"bulkhead run --fl", "--flow", "--state"},
		{"bulkhead completion ", "fish", "up"},
		{"bulkhead completion --", "--help", "fish"},
	} {
		words := strings.Split(tt.line, " ")
		command := script("bash") + "\nCOMP_WORDS=(" + strings.Join(words[:len(words)-1], " ") + ` "` + words[len(words)-1] + "\")\n" +
			"COMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n_bulkhead\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n"
		b, err := exec.Command(bash, "-c", command).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", tt.line, err, b)
		}
		offered := "\n" + string(b)
		if !strings.Contains(offered, "\n"+tt.want+"\n") || strings.Contains(offered, "\n"+tt.not+"\n") {
			t.Errorf("%q offers %q", tt.line, offered)
		}
	}
}
