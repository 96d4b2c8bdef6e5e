//! Who may write a region: one, and nobody after it who has a lower epoch.
//!
//! ```text
//!                 Promote(e, s)                              kept: (E, S)
//!   e > E ─────────────────────► keep (e, s), durably ──► Promoted; whoever was promoted before is told Fenced, and closed
//!   (e, s) = (E, S) ───────────► Promoted; the connection that it had before is closed
//!   e > E + 2^20, E > 0 ───────► Refused, in words; nothing changes
//!   otherwise ─────────────────► Refused; nothing changes
//! ```

use crate::{
    member::{ConnectionId, Effect, Member},
    rules::Rule,
};
use region::{Control, Failed, Promotion};
use region_wire::{Promoted, Refusal, Reply};

/// An epoch is higher than the one before it by so much at most: one is given for each activation, and not every activation reaches
/// every member. One that is much higher is a mistake, or a stranger's, and after the last one there is none.
pub const EPOCHS_AT_ONCE: u32 = 1 << 20;

impl Member {
    pub(crate) fn promote(
        &mut self,
        connection: ConnectionId,
        promotion: Promotion,
        effects: &mut Vec<Effect>,
    ) {
        let kept = self.region.control().promoted;
        let is_higher = promotion.epoch > kept.epoch || !Rule::LowerEpochIsRefused.is_kept();
        if promotion.epoch == 0 {
            return self.end(connection, Reply::Wrong("epoch 0 is nobody's".to_owned()), effects);
        }
        if !is_higher && promotion != kept {
            return effects.push(Effect::Send(connection, Reply::Refused(Refusal::Epoch(kept))));
        }
        // Whose first one it is, and who joins a volume that has had many, has nothing yet that could be locked up.
        let highest = kept.epoch.saturating_add(EPOCHS_AT_ONCE);
        if kept.epoch > 0 && promotion.epoch > highest && Rule::EpochsRiseSlowly.is_kept() {
            let why = format!(
                "epoch {} is more than {EPOCHS_AT_ONCE} higher than {}, which it has: the highest that it takes is {highest}",
                promotion.epoch, kept.epoch
            );
            return effects.push(Effect::Send(connection, Reply::Refused(Refusal::EpochTooHigh(why))));
        }
        if promotion != kept
            && let Err(failed) = self.keep_promotion(promotion)
        {
            return self.fail(&failed, effects);
        }
        if let Some(before) = self.active.take().filter(|before| *before != connection) {
            if promotion == kept {
                effects.push(Effect::Close(before));
                self.connections.remove(&before);
            } else {
                effects.push(Effect::Send(before, Reply::Fenced(promotion)));
                self.fenced.insert(before);
            }
        }
        self.fenced.remove(&connection);
        self.forget_work();
        self.active = Some(connection);
        let control = self.region.control();
        let promoted = Promoted {
            list: control.list.clone(),
            applied: self.region.applied(),
            durable: self.region.durable(),
            is_suspect: control.is_suspect,
        };
        effects.push(Effect::Send(connection, Reply::Promoted(promoted)));
    }

    fn keep_promotion(&mut self, promotion: Promotion) -> Result<(), Failed> {
        let control = Control { promoted: promotion, ..self.region.control().clone() };
        #[cfg(feature = "mutants")]
        if !Rule::PromotionIsDurable.is_kept() {
            self.region.forge_control(control);
            return Ok(());
        }
        self.region.set_control(control)
    }
}
