package vault

import (
	"context"
	"errors"
	"log/slog"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/keystore"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// The three answers to a request that is not served. They say nothing of the reason.
var (
	// ErrRefused is final: asking again will not help.
	ErrRefused = errors.New("refused by the vault")
	// ErrBusy is the rate limit of the requester: ask again in a second.
	ErrBusy = errors.New("too many requests to the vault")
	// ErrUnavailable is a fault of the vault or its keystore.
	ErrUnavailable = errors.New("the vault is unavailable")
)

var (
	// ErrWrongRoot is wrapped by Open when the root key does not fit the keystore.
	ErrWrongRoot = errors.New("wrong root key")
	// errChanged is a row that does not agree with the ledger.
	errChanged = errors.New("a row and the ledger disagree about a version")
	// errUnknown is a subject that the ledger does not know or that was destroyed.
	errUnknown = errors.New("unknown or destroyed")
)

// Answer is the wire form of an error of [Vault.Lease] or [Vault.Call].
func Answer(err error) *wire.Error {
	switch {
	case errors.Is(err, ErrRefused):
		return &wire.Error{Code: "refused", Message: ErrRefused.Error()}
	case errors.Is(err, ErrBusy):
		return &wire.Error{Code: "busy", Message: ErrBusy.Error()}
	default:
		return &wire.Error{Code: "unavailable", Message: ErrUnavailable.Error()}
	}
}

// refuse logs why a request is not served and returns what may be said of it. The
// cause is hidden on purpose.
func (v *Vault) refuse(ctx context.Context, what string, from id.Node, cause error) error {
	answer, level := ErrUnavailable, slog.LevelError
	switch {
	case errors.Is(cause, ErrBusy):
		answer, level = ErrBusy, slog.LevelWarn
	case errors.Is(cause, errChanged), errors.Is(cause, keystore.ErrDamaged):
		answer = ErrRefused
	case errors.Is(cause, errBefore), errors.Is(cause, errKey):
		level = slog.LevelWarn // it is asked again
	case final(cause):
		answer, level = ErrRefused, slog.LevelWarn
	}
	v.log.LogAttrs(ctx, level, "request refused", slog.String("request", what), slog.String("requester", from.String()),
		slog.String("answer", answer.Error()), slog.String("reason", cause.Error()))
	return answer
}

// final reports whether asking again cannot help.
func final(cause error) bool {
	for _, e := range []error{ErrRefused, lease.ErrRefused, wire.ErrMalformed, keystore.ErrNotFound, seal.ErrOpen, errUnknown, errDay} {
		if errors.Is(cause, e) {
			return true
		}
	}
	return false
}
