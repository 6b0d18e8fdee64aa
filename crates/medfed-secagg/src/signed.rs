//! Signed messages: their canonical bytes and what a signature covers.
//!
//! On the wire: version, kind, digest of the session's terms, sender, body, Ed25519 signature. The signature covers
//! the terms themselves, the kind, the transcript of the rounds before, the sender and the digest of the
//! body. Signatures are verified strictly: no point of low order, no second encoding.

use ed25519_dalek::Signature;

use crate::context::SessionContext;
use crate::digest::Digest;
use crate::error::{Fault, SecaggError};
use crate::message::MessageKind;
use crate::roster::{Identity, Members, SiteIndex};
use crate::wire::Reader;

/// The version of the messages.
const VERSION: u8 = 1;
/// Marks the kind of a message that holds several signed ones.
const MANY: u8 = 0x80;

/// What a site can sign.
pub(crate) trait Body: Sized {
    const KIND: MessageKind;

    /// Appends the canonical bytes.
    fn write(&self, out: &mut Vec<u8>);

    /// Reads the canonical bytes; lengths follow from the terms.
    fn read(reader: &mut Reader<'_>, context: &SessionContext) -> Result<Self, Fault>;

    /// The hash that is signed.
    fn digest(&self) -> Digest {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        Digest::of("body", &[&bytes])
    }
}

/// A message of one site, with its signature. Whether the signature verifies is looked at by the step that
/// takes the message.
#[derive(Clone, PartialEq, Eq)]
pub struct Signed<B> {
    sender: SiteIndex,
    context: Digest,
    body: B,
    signature: [u8; 64],
}

impl<B> std::fmt::Debug for Signed<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signed({}, {})", std::any::type_name::<B>(), self.sender.get())
    }
}

impl<B> Signed<B> {
    /// Stands for the message and for everything that its signature covers: RFC 8032 signs the same twice
    /// in the same way.
    pub(crate) fn fingerprint(&self) -> Digest {
        Digest::of("signed message", &[&self.signature])
    }

    /// The site that claims to have sent it.
    pub fn sender(&self) -> SiteIndex {
        self.sender
    }

    pub(crate) fn body(&self) -> &B {
        &self.body
    }

    pub(crate) fn into_body(self) -> B {
        self.body
    }
}

#[expect(private_bounds, reason = "only this crate makes messages")]
impl<B: Body> Signed<B> {
    pub(crate) fn new(
        context: &SessionContext,
        transcript: Digest,
        identity: &Identity,
        sender: SiteIndex,
        body: B,
    ) -> Self {
        let digest = body.digest();
        Self::with_digest(context, transcript, identity, sender, body, digest)
    }

    /// Of a body whose hash is known already.
    pub(crate) fn with_digest(
        context: &SessionContext,
        transcript: Digest,
        identity: &Identity,
        sender: SiteIndex,
        body: B,
        digest: Digest,
    ) -> Self {
        let signature = identity.sign(&covered::<B>(context, transcript, sender, digest));
        Self { sender, context: context.digest(), body, signature }
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, B::KIND as u8];
        out.extend_from_slice(self.context.as_bytes());
        self.write(&mut out);
        out
    }

    /// Reads canonical bytes. No more memory is taken than the bytes are long, or than the terms foresee.
    pub fn decode(bytes: &[u8], context: &SessionContext) -> Result<Self, SecaggError> {
        let mut reader = Reader::new(bytes);
        let read = || -> Result<Self, Fault> {
            let digest = read_head(&mut reader, B::KIND as u8)?;
            let message = Self::read(&mut reader, context, digest)?;
            reader.finish()?;
            Ok(message)
        };
        read().map_err(|fault| SecaggError::Malformed { message: B::KIND, fault })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.sender.byte());
        self.body.write(out);
        out.extend_from_slice(&self.signature);
    }

    fn read(reader: &mut Reader<'_>, context: &SessionContext, digest: Digest) -> Result<Self, Fault> {
        let sender = usize::from(reader.u8()?);
        let sender = SiteIndex::new(sender).filter(|_| sender < context.sites()).ok_or(Fault::Value)?;
        let body = B::read(reader, context)?;
        Ok(Self { sender, context: digest, body, signature: reader.array()? })
    }

    /// Checks that the sender is one of `invited`, speaks of this session, and signed this.
    pub(crate) fn verify(
        &self,
        context: &SessionContext,
        transcript: Digest,
        invited: Members,
    ) -> Result<(), SecaggError> {
        let message = B::KIND;
        let site = || context.name(self.sender);
        if self.context != context.digest() {
            return Err(SecaggError::OtherContext { message, site: site() });
        }
        if !invited.contains(self.sender) {
            return Err(SecaggError::Uninvited { message, site: site() });
        }
        let covered = covered::<B>(context, transcript, self.sender, self.body.digest());
        let signature = Signature::from_bytes(&self.signature);
        match context.cohort().key(self.sender).verify_strict(&covered, &signature) {
            Ok(()) => Ok(()),
            Err(_) => Err(SecaggError::Signature { message, site: site() }),
        }
    }
}

/// What a signature covers.
fn covered<B: Body>(
    context: &SessionContext,
    transcript: Digest,
    sender: SiteIndex,
    body: Digest,
) -> Vec<u8> {
    let mut out = context.header().to_vec();
    out.push(B::KIND as u8);
    out.extend_from_slice(transcript.as_bytes());
    out.push(sender.byte());
    out.extend_from_slice(body.as_bytes());
    out
}

fn read_head(reader: &mut Reader<'_>, kind: u8) -> Result<Digest, Fault> {
    if reader.u8()? != VERSION || reader.u8()? != kind {
        return Err(Fault::Kind);
    }
    reader.array().map(Digest::new)
}

/// What the coordinator passes on to the sites: the messages of one round, by ascending sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broadcast<B> {
    messages: Vec<Signed<B>>,
}

impl<B> Broadcast<B> {
    pub(crate) fn new(messages: impl IntoIterator<Item = Signed<B>>) -> Self {
        Self { messages: messages.into_iter().collect() }
    }

    /// The messages.
    pub fn messages(&self) -> &[Signed<B>] {
        &self.messages
    }
}

#[expect(private_bounds, reason = "only this crate makes messages")]
impl<B: Body> Broadcast<B> {
    /// The canonical bytes under the session's terms.
    pub fn encode(&self, context: &SessionContext) -> Vec<u8> {
        let mut out = vec![VERSION, B::KIND as u8 | MANY];
        let digest = self.messages.first().map_or(context.digest(), |message| message.context);
        out.extend_from_slice(digest.as_bytes());
        // At most 100 sites.
        out.push(self.messages.len() as u8);
        self.messages.iter().for_each(|message| message.write(&mut out));
        out
    }

    /// Reads canonical bytes: one message or more, at most one for each site, in ascending order.
    pub fn decode(bytes: &[u8], context: &SessionContext) -> Result<Self, SecaggError> {
        let mut reader = Reader::new(bytes);
        let read = || -> Result<Self, Fault> {
            let digest = read_head(&mut reader, B::KIND as u8 | MANY)?;
            let count = usize::from(reader.u8()?);
            if count == 0 || count > context.sites() {
                return Err(Fault::Value);
            }
            let mut messages: Vec<Signed<B>> = Vec::with_capacity(count);
            for _ in 0..count {
                let message = Signed::read(&mut reader, context, digest)?;
                if messages.last().is_some_and(|last| last.sender >= message.sender) {
                    return Err(Fault::Value);
                }
                messages.push(message);
            }
            reader.finish()?;
            Ok(Self { messages })
        };
        read().map_err(|fault| SecaggError::Malformed { message: B::KIND, fault })
    }

    /// Checks that senders ascend, are invited and signed what they sent; gives the set of senders.
    pub(crate) fn verify(
        &self,
        context: &SessionContext,
        transcript: Digest,
        invited: Members,
    ) -> Result<Members, SecaggError> {
        let mut senders = Members::default();
        let mut last = None;
        for message in &self.messages {
            message.verify(context, transcript, invited)?;
            if last >= Some(message.sender) {
                let site = context.name(message.sender);
                return Err(SecaggError::Duplicate { message: B::KIND, site });
            }
            last = Some(message.sender);
            senders.insert(message.sender);
        }
        Ok(senders)
    }

    /// The transcript that these messages continue.
    pub(crate) fn transcript(&self, before: Digest) -> Digest {
        let mut bytes = Vec::new();
        self.messages.iter().for_each(|message| message.write(&mut bytes));
        Digest::of("transcript", &[before.as_bytes(), &[B::KIND as u8], &bytes])
    }
}
