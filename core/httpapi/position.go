package httpapi

import (
	"net/http"

	"blobpglite/core/pgdata"
)

// positionHeader is, in an answer to /sql, how far the log has come of which that answer tells (an LSN): a writer's covers what the request has
// committed. In a request it is a position that the service has to come to before it runs anything: so a client that gives along the
// last one that it was given reads what it has written, and never goes back, whichever replica it asks. A replica waits for it, and answers 503
// with SQLSTATE 55000 if it does not come in time.
//
// Of an answer that is sent as its rows come, it is the position at its beginning.
const positionHeader = "X-Blobpglite-Position"

// tellPosition puts the position into the header of an answer.
func (a *API) tellPosition(h http.Header) {
	if e := a.o.Keeper.Current(); e != nil {
		h.Set(positionHeader, pgdata.LSN(e.Position()).String())
	}
}

// awaitPosition waits for the position that a request gives along.
func (a *API) awaitPosition(r *http.Request) error {
	given := r.Header.Get(positionHeader)
	if given == "" {
		return nil
	}
	at, err := pgdata.ParseLSN(given)
	if err != nil {
		return bad(http.StatusBadRequest, "%s: %v", positionHeader, err)
	}
	e, err := a.o.Keeper.Engine(r.Context())
	if err != nil {
		return err
	}
	return e.Await(r.Context(), uint64(at))
}
