package gcs

import "blobpglite/core/store"

// Above implements store.Placed: the views share the client, and must not close it.
func (s *Store) Above() []store.Store {
	var views []store.Store
	for _, f := range store.Folders(s.prefix) {
		o := s.o
		o.Prefix = f
		views = append(views, &Store{o: o, clients: s.clients, prefix: f})
	}
	return views
}
