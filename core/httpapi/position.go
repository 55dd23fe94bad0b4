package httpapi

import (
	"net/http"

	"blobpglite/core/pgdata"
)

// positionHeader holds a position in PostgreSQL's log, an LSN. In an answer to /sql it covers everything the answer shows; a writer's
// covers what the request has committed. In a request it is a position that the service must have reached before it runs anything. So a
// client that sends the last position it received reads its own writes and never goes back in time, whichever replica it asks. A replica
// waits for the position, and answers 503 with SQLSTATE 55000 if it does not get there in time.
//
// In an answer sent row by row, the header holds the position at its beginning.
const positionHeader = "X-Blobpglite-Position"

// tellPosition puts the position into the header of an answer.
func (a *API) tellPosition(h http.Header) {
	if e := a.o.Keeper.Current(); e != nil {
		h.Set(positionHeader, pgdata.LSN(e.Position()).String())
	}
}

// awaitPosition waits for the position in a request's header.
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
