package store

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Every statement of this package runs on both engines.
func TestEveryStatementIsGoodOnBothEngines(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		exercise(t, w)
		texts := maps.Clone(w.s.read.open)
		switch write := w.s.write.(type) {
		case *writerSQLite:
			write.conn.Texts(func(text string) { texts[text] = nil })
		case *writerPostgres:
			for text := range write.prepared {
				texts[text] = nil
			}
		}
		if len(texts) < 50 {
			t.Errorf("only %d statements were run", len(texts))
		}
	})
}

// exercise runs what newWorld and checkHandles do not.
func exercise(t *testing.T, w *world) {
	t.Helper()
	ctx := context.Background()
	checkHandles(t, w)
	system := w.s.System(ctx)
	_, errVersion := system.Version([32]byte{1})
	_, errWeights := system.Weights()
	_, errPaused := system.HeldInstances()
	_, errCaps := system.InFlightCaps()
	_, errCustomer := system.CustomerOf(w.execution.ID)
	wait, errWait := system.WaitByKey([32]byte{1})
	due, errDue := system.DueWaits(time.Time{}, at().Add(time.Hour))
	_, errChildren := w.s.Customer(ctx, w.owner).OpenChildren(w.execution.ID)
	_, errRecords := w.s.Customer(ctx, w.owner).FlowRecords(at(), at(), 1)
	errOpen := system.OpenExecutions(ShardOf(w.owner), func(*Unfinished) error { return nil })
	errExpiring := system.Expiring(ShardOf(w.owner), at(), 1, func(*Unfinished) error { return nil })
	if err := errors.Join(errVersion, errWeights, errPaused, errCaps, errCustomer, errWait, errDue, errChildren, errRecords, errOpen, errExpiring); err != nil {
		t.Error(err)
	}
	if len(due) != 1 || wait == nil || wait.Execution != w.execution.ID {
		t.Errorf("waits = %+v, %+v", due, wait)
	}
	x, fence := w.execution.ID, w.execution.Fence
	steps := []func(c CustomerTx) error{
		func(c CustomerTx) error { _, _, err := c.Advance(x, fence, make([]wire.Entry, 2)); return err },
		func(c CustomerTx) error {
			_, _, err := c.Advance(x, fence, []wire.Entry{{Seq: 2}})
			return expect(err, ErrNotFound)
		},
		func(c CustomerTx) error {
			again, err := c.Repeats(x, fence, []wire.Entry{{Seq: 2}})
			if err == nil && again {
				err = errors.New("an entry that is not in the journal repeats one")
			}
			return err
		},
		func(c CustomerTx) error {
			return expect(mustClose(c.CloseWaitChild(x, "c", id.Execution{8})), ErrNotFound)
		},
		func(c CustomerTx) error { return mustClose(c.CloseWaitChild(x, "c", id.Execution{7})) },
		func(c CustomerTx) error {
			return c.PutWait(x, &wire.Wait{Path: "w", Kind: wire.WaitTimer, At: at().Add(time.Hour)})
		},
		func(c CustomerTx) error {
			mine, err := c.WaitAnswered(x, "c", id.Execution{7})
			other, err2 := c.WaitAnswered(x, "c", id.Execution{8})
			if !mine || other {
				return fmt.Errorf("answered: %v for its child, %v for another", mine, other)
			}
			return errors.Join(err, err2)
		},
		func(c CustomerTx) error { return mustClose(c.CloseWaitAt(x, "w", at().Add(time.Hour))) },
		func(c CustomerTx) error {
			_, err := c.SkipWait(x, "w")
			return expect(err, ErrNotFound)
		},
		func(c CustomerTx) error {
			_, seen, err := c.Deduplicate(w.instance, "main", [32]byte{1}, x, at(), at().Add(time.Hour))
			if err == nil && seen {
				err = errors.New("the first delivery was seen before")
			}
			return err
		},
		func(c CustomerTx) error {
			first, seen, err := c.Deduplicate(w.instance, "main", [32]byte{1}, id.NewExecution(at()), at(), at().Add(time.Hour))
			if err == nil && (!seen || first != x) {
				err = errors.New("the second delivery was not seen before")
			}
			return err
		},
		func(c CustomerTx) error {
			return c.PutFlowRecord(&wire.FlowRecord{Customer: w.owner, Time: at(), Method: "GET", Verdict: "ok"})
		},
		func(c CustomerTx) error { return c.SetInstanceState(w.instance, InstancePaused, at()) },
		func(c CustomerTx) error { _, err := c.Interrupt(x, fence, "crash", true); return err },
		func(c CustomerTx) error { return c.Lease(x, fence, id.NewNode(at()), at(), at()) },
		func(c CustomerTx) error {
			_, err := c.Finish(x, fence+1, nil, &wire.Finish{Status: wire.StatusWaiting, Wakes: 1}, at())
			return err
		},
		func(c CustomerTx) error {
			_, err := c.End(x, &wire.Finish{Status: wire.StatusCancelled}, at())
			return err
		},
	}
	for i, step := range steps {
		if err := w.s.Write(ctx, func(tx *Tx) error { return step(tx.Customer(w.owner)) }); err != nil {
			t.Errorf("step %d: %v", i, err)
		}
	}
	err := w.s.Write(ctx, func(tx *Tx) error {
		node := id.NewNode(at())
		if err := tx.System().PrepareShards(); err != nil {
			return err
		}
		if _, err := tx.System().ClaimShards(node, at(), at().Add(time.Minute)); err != nil {
			return err
		}
		if err := tx.Customer(w.owner).PutNotice(x, at()); err != nil {
			return err
		}
		list, err := tx.System().Notices(node, 10)
		if err != nil || len(list) != 1 || list[0].Customer != w.owner || list[0].Execution != x {
			return fmt.Errorf("notices = %v, %w", list, err)
		}
		if err := tx.System().DropNotice(&list[0], id.NewNode(at())); err != nil {
			return err
		}
		if list, err = tx.System().Notices(node, 10); err != nil || len(list) != 1 {
			return fmt.Errorf("notices after one who has not the shard = %v, %w", list, err)
		}
		if err := tx.System().DropNotice(&list[0], node); err != nil {
			return err
		}
		if list, err = tx.System().Notices(node, 10); err != nil || len(list) != 0 {
			return fmt.Errorf("notices after they were dropped = %v, %w", list, err)
		}
		return tx.System().EndClaims(node)
	})
	if err != nil {
		t.Error(err)
	}
}

// expect makes the error that must come nil, and none an error.
func expect(err, want error) error {
	if errors.Is(err, want) {
		return nil
	}
	return fmt.Errorf("got %v, want %w", err, want)
}

// Every method of a handle is called by a test here, which run on both engines: a statement
// that only one of them takes is then found in this package.
func TestEveryHandleMethodIsTested(t *testing.T) {
	t.Parallel()
	methods, called := map[string]string{}, map[string]bool{}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if of := handleOf(n); of != "" && n.Name.IsExported() {
					methods[n.Name.Name] = of
				}
			case *ast.SelectorExpr:
				if strings.HasSuffix(name, "_test.go") {
					called[n.Sel.Name] = true
				}
			}
			return true
		})
	}
	if len(methods) < 100 {
		t.Errorf("only %d methods were found", len(methods))
	}
	for name, of := range methods {
		if !called[name] {
			t.Errorf("%s.%s is called by no test of this package", of, name)
		}
	}
}

// handleOf is the handle that a function is a method of, or empty.
func handleOf(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	of, ok := f.Recv.List[0].Type.(*ast.Ident)
	if ok && slices.Contains([]string{"Customer", "CustomerTx", "System", "SystemTx", "Org", "OrgTx"}, of.Name) {
		return of.Name
	}
	return ""
}
