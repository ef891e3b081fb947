package worker

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// lone is a journal whose appends a test keeps and answers.
func lone(sent *[][]byte) *journal {
	return &journal{
		send: func(a *wire.Append) error {
			*sent = append(*sent, wire.AppendBody(nil, a))
			return nil
		},
		empty:       wire.Append{Execution: id.NewExecution(time.Now()), Fence: 7},
		takeLogs:    func() []wire.LogLines { return nil },
		repeatAfter: appendRepeat,
	}
}

func TestAnAppendWithoutAnAnswerIsRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var sent [][]byte
		j := lone(&sent)
		j.add(group{entries: []wire.Entry{{Kind: wire.EntryResult, Path: "a", Body: []byte("sealed")}}})
		begun := time.Now()
		done := make(chan error, 2)
		for range 2 { // two branches wait for the same commit
			go func() { done <- j.barrier(context.Background()) }()
		}
		<-time.After(appendRepeat + time.Millisecond)
		synctest.Wait()
		if len(sent) != 2 || !cmp.Equal(sent[0], sent[1]) {
			t.Errorf("%d appends were sent, want the same one twice", len(sent))
		}
		if err := j.appended(&wire.Appended{Fence: 7, Seq: 1}); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(<-done, <-done); err != nil || time.Since(begun) > 2*appendRepeat {
			t.Errorf("committed: %v after %v", err, time.Since(begun))
		}
	})
}

func TestAnAnswerToAnEarlierAppendIsNotTakenForThatToALaterOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var sent [][]byte
		j := lone(&sent)
		commit := func() chan error {
			j.add(group{entries: []wire.Entry{{Kind: wire.EntryResult, Path: "a"}}})
			done := make(chan error, 1)
			go func() { done <- j.barrier(context.Background()) }()
			synctest.Wait()
			return done
		}
		first := commit()
		if err := errors.Join(j.appended(&wire.Appended{Fence: 7, Seq: 1}), <-first); err != nil {
			t.Fatal(err)
		}
		second := commit()
		if err := j.appended(&wire.Appended{Fence: 7, Seq: 1}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		select {
		case err := <-second:
			t.Errorf("an effect may begin before its journal is committed: %v", err)
		default:
		}
		if err := errors.Join(j.appended(&wire.Appended{Fence: 7, Seq: 2}), <-second); err != nil {
			t.Error(err)
		}
	})
}

func TestAServerThatNeverAnswersIsAskedEverMoreRarely(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var sent [][]byte
		j := lone(&sent)
		j.add(group{entries: []wire.Entry{{Kind: wire.EntryResult, Path: "a"}}})
		begun := time.Now()
		err := j.barrier(context.Background())
		if took := time.Since(begun); !errors.Is(err, errLost) || took != appendWait || len(sent) > 8 {
			t.Errorf("given up with %v after %v and %d appends", err, took, len(sent))
		}
	})
}
