//! `/api/events`: what changes, as it changes.

use super::failure::Failure;
use crate::app::App;
use crate::events::{Event, resync};
use crate::security::visitor::Visitor;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{self, KeepAlive, Sse};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio_stream::Stream;

/// Server-sent events: `state`, `progress`, `round`, `notice`, `audit`, `resync`, `end`. A browser that comes
/// back with `Last-Event-ID` gets what it has missed. With the session ends the stream; its last event is
/// `end`.
#[utoipa::path(get, path = "/api/events", tag = "data",
    params(("Last-Event-ID" = Option<String>, Header, description = "The last event that was received")),
    responses(
        (status = 200, description = "A stream that stays open", content_type = "text/event-stream", body = String),
        (status = 503, description = "Too many streams are open", body = Failure)))]
pub(crate) async fn events(
    State(app): State<App>,
    visitor: Visitor,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Failure> {
    let permit = std::sync::Arc::clone(&app.streams).try_acquire_owned().map_err(|_| {
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "too many pages are open; close some and try again")
    })?;
    // What is no number is a browser that has seen nothing of ours.
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
    let (missed, mut receiver) = app.hub.subscribe(last);
    let mut ending = app.ending.subscribe();
    let (sender, stream) = tokio::sync::mpsc::channel::<Result<sse::Event, Infallible>>(16);
    tokio::spawn(async move {
        let _permit = permit;
        let passing_on = async {
            for event in missed {
                if sender.send(Ok(frame(&event))).await.is_err() {
                    return;
                }
            }
            loop {
                let event = match receiver.recv().await {
                    Ok(event) => event,
                    Err(RecvError::Lagged(_)) => resync(0),
                    Err(RecvError::Closed) => return,
                };
                if sender.send(Ok(frame(&event))).await.is_err() {
                    return;
                }
            }
        };
        // A client that does not read holds up the sending, and none of the ends.
        tokio::select! {
            () = passing_on => {}
            _ = ending.wait_for(|ending| *ending) => {}
            () = sender.closed() => {}
            () = visitor.left() => {
                // Where there is no room for it, the end itself has to do.
                let _ = sender.try_send(Ok(sse::Event::default().event("end").data("{}")));
            }
        }
    });
    let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

fn frame(event: &Event) -> sse::Event {
    let frame = sse::Event::default().event(event.kind).data(&*event.data);
    if event.id == 0 { frame } else { frame.id(event.id.to_string()) }
}
