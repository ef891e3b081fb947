// Package oauth is the token engine: it obtains, renews and gives up the tokens of one
// connection as the recipe of its auth method says (package credential).
//
// Purpose: a [Grant] joins the method, the values of its variables, and the secrets of one
// connection and its client. [Grant.Run] makes one leg (exchange of a code, refresh, mint),
// [Grant.Resume] goes on from an answer that was committed and not read, [Grant.Revoke] gives
// tokens up. [AuthorizeURL] and [Grant.Callback] are the two sides of the browser's way.
//
// Authority: the engine sends secrets only to URLs of the recipe, whose hosts are fixed or follow
// the rules of their variables and kept values. It keeps nothing: whoever runs a leg commits the raw
// answer when it is handed over, before it is read, and saves the [Tokens] before they are used.
//
// Order of a leg: build the request, send it, hand over the raw answer, read it, make the further
// steps, return the tokens. Only the first request can consume what cannot be had again (a code, a
// rotating refresh token); the steps behind it can be repeated.
//
// Concurrency: a Grant is used by one goroutine. Nothing is shared.
//
// Failure: errors are [*Fault] and say what is known: refused (the grant is gone), temporary,
// configuration (nobody but the operator can help), unsent, ambiguous (sent, and no answer that
// says anything), protocol (an answer that cannot be accepted). Messages hold nothing of what the
// other side sent but an error code of plain characters.
//
// The specifications: RFC 6749, 6750, 7009, 7521, 7523, 7591, 7636, 7662, 8414, 9207, 9700, 9728;
// OpenID Connect Core 1.0 section 3.1.3.7.
package oauth
