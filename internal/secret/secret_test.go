package secret

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestValueNeverPrints(t *testing.T) {
	t.Parallel()
	const canary = "canary-5f0c2a91"
	type holder struct {
		Name    string
		Secret  Value
		Ptr     *Value
		private Value
	}
	v := New([]byte(canary))
	h := holder{Name: "n", Secret: v, Ptr: &v, private: v}
	var out bytes.Buffer
	for _, x := range []any{v, &v, h, &h, []Value{v}, map[string]Value{"k": v}, struct{ error }{fmt.Errorf("wrapped: %v", v)}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
			fmt.Fprintf(&out, verb+"\n", x)
		}
		if b, err := json.Marshal(x); err == nil {
			out.Write(b)
		}
		if b, err := xml.Marshal(x); err == nil {
			out.Write(b)
		}
		_ = gob.NewEncoder(&out).Encode(x)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", x)
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", x)
	}
	got := out.String()
	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), fmt.Sprint([]byte(canary))} {
		if strings.Contains(got, form) {
			t.Errorf("printed form contains %q", form)
		}
	}
	if !strings.Contains(got, Redacted) {
		t.Error("nothing was printed at all")
	}
}

func TestEqualAndDestroy(t *testing.T) {
	t.Parallel()
	a, b, c := New([]byte("abc")), New([]byte("abc")), New([]byte("abd"))
	if !a.Equal(b) || a.Equal(c) || a.Equal(Value{}) || !(Value{}).Equal(Value{}) {
		t.Error("Equal gives a wrong verdict")
	}
	a.Destroy()
	if !bytes.Equal(a.Reveal(), []byte{0, 0, 0}) {
		t.Errorf("after Destroy: %q", a.Reveal())
	}
}
